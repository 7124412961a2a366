//! What a sign-in costs, by the algorithm of the token and by what the session remembers.

use super::{Pairs, Result, median, register, show, token, token_of};
use crate::signer::Signer;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use pg_tenancy_core::identity::algorithm::Algorithm;
use pg_tenancy_core::identity::keys::KeySet;
use std::time::{Duration, Instant};
use tokio_postgres::Client;

/// Every family of algorithms; the others of a family differ by the hash alone.
const SIGNED_BY: [Algorithm; 6] =
    [Algorithm::Hs256, Algorithm::Rs256, Algorithm::Ps256, Algorithm::Es256, Algorithm::Es384, Algorithm::EdDsa];

pub async fn measure(client: &Client) -> Result<()> {
    for algorithm in SIGNED_BY {
        let signer = Signer::new(algorithm);
        register(client, &signer).await?;
        // A key file that was written a moment ago is read again each time.
        tokio::time::sleep(Duration::from_secs(3)).await;
        again(client, &signer, algorithm).await?;
        first(client, &signer, algorithm).await?;
    }
    let signer = Signer::new(Algorithm::Hs256);
    register(client, &signer).await?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    in_the_server(client, &signer).await?;
    tokens(client, &signer).await?;
    issuers(client, &signer).await
}

/// A token that the session remembers, beside the setting that applications use today; each a transaction of its own.
async fn again(client: &Client, signer: &Signer, algorithm: Algorithm) -> Result<()> {
    const TIMES: u32 = 300;
    let token = token(signer, 0);
    let authenticate = client.prepare("SELECT tenancy.authenticate($1)").await?;
    let setting = client.prepare("SELECT set_config('x.y', 'y', true) WHERE $1::text IS NOT NULL").await?;
    let mut pairs = Pairs::new();
    for _ in 0..15 {
        for (statement, durations) in [(&setting, &mut pairs.without), (&authenticate, &mut pairs.with)] {
            let start = Instant::now();
            for _ in 0..TIMES {
                client.query(statement, &[&token]).await?;
            }
            durations.push(start.elapsed());
        }
    }
    let rate = f64::from(TIMES) / median(&pairs.with).as_secs_f64();
    let note = format!("(goal: at most 1.3; {rate:.0} per second)");
    pairs.report(&format!("authenticate {algorithm} remembered, beside set_config"), TIMES, &note);
    Ok(())
}

/// Tokens that are seen for the first time, beside nothing but their signatures' verification by the same library.
async fn first(client: &Client, signer: &Signer, algorithm: Algorithm) -> Result<()> {
    const TOKENS: u32 = 200;
    let keys = KeySet::parse(&signer.key_set())?;
    let statement = client.prepare("SELECT count(tenancy.authenticate(t)) FROM unnest($1::text[]) t").await?;
    let mut pairs = Pairs::new();
    for round in 0..9 {
        let tokens: Vec<String> = (1..=TOKENS).map(|n| token(signer, round * TOKENS + n)).collect();
        let signed: Vec<(&[u8], Vec<u8>)> = tokens
            .iter()
            .filter_map(|token| token.rsplit_once('.'))
            .filter_map(|(input, signature)| Some((input.as_bytes(), URL_SAFE_NO_PAD.decode(signature).ok()?)))
            .collect();
        let start = Instant::now();
        assert!(signed.iter().all(|(input, signature)| keys.keys()[0].verify(input, signature)));
        pairs.without.push(start.elapsed());
        let start = Instant::now();
        client.query_one(&statement, &[&tokens]).await?;
        pairs.with.push(start.elapsed());
    }
    let rest = (median(&pairs.with).saturating_sub(median(&pairs.without))) / TOKENS;
    let note = format!("(goal: at most 22 us beyond the signature, here {})", show(rest));
    pairs.report(&format!("authenticate {algorithm} anew, beside its verification"), TOKENS, &note);
    Ok(())
}

/// The function alone, many calls in a statement, so without the round trip that an application pays in any case.
async fn in_the_server(client: &Client, signer: &Signer) -> Result<()> {
    const TIMES: u32 = 1_000;
    let token = token(signer, 0);
    let many = format!("FROM generate_series(1, {TIMES}) n");
    let setting = client.prepare(&format!("SELECT count(set_config('x.y', 'y' || n || $1, true)) {many}")).await?;
    let authenticate = client.prepare(&format!("SELECT count(tenancy.authenticate($1)) {many}")).await?;
    let mut pairs = Pairs::new();
    for _ in 0..15 {
        for (statement, durations) in [(&setting, &mut pairs.without), (&authenticate, &mut pairs.with)] {
            let start = Instant::now();
            client.query_one(statement, &[&token]).await?;
            durations.push(start.elapsed());
        }
    }
    pairs.report("the function alone, HS256 remembered, beside set_config", TIMES, "(goal: at most 8 us)");
    Ok(())
}

/// Each token a transaction of its own, in turn.
async fn enter(client: &Client, tokens: &[String]) -> Result<Duration> {
    let statement = client.prepare("SELECT tenancy.authenticate($1)").await?;
    let start = Instant::now();
    for token in tokens {
        client.query(&statement, &[token]).await?;
    }
    Ok(start.elapsed())
}

/// More users than a session remembers, as behind a pooler.
async fn tokens(client: &Client, signer: &Signer) -> Result<()> {
    for number in [200, 1_000, 10_000] {
        let one = vec![token(signer, 0); number as usize];
        let many: Vec<String> = (0..number).map(|n| token(signer, 1_000_000 + n)).collect();
        enter(client, &many).await?;
        let mut pairs = Pairs::new();
        for _ in 0..3 {
            pairs.add(enter(client, &one).await?, enter(client, &many).await?);
        }
        pairs.report(&format!("{number} tokens in turn, HS256, beside one"), number, "");
    }
    Ok(())
}

/// More issuers than a session once remembered, each with a member of its own.
async fn issuers(client: &Client, signer: &Signer) -> Result<()> {
    const TIMES: u32 = 5;
    let name = |n: u32| format!("https://idp-{n}.example/");
    for number in [50, 70] {
        client
            .batch_execute(&format!(
                "SELECT tenancy.set_issuer(format('https://idp-%s.example/', n), '{{bench}}', \
                        jwks_file => 'bench.json'),
                        tenancy.set_membership(lpad('1', 32, '0')::uuid, 'alice', 'admin', \
                        format('https://idp-%s.example/', n))
                   FROM generate_series(1, {number}) n"
            ))
            .await?;
        let of = |issuers: u32| -> Vec<String> {
            (0..number * TIMES).map(|n| token_of(signer, &name(1 + n % issuers), n % number)).collect()
        };
        let (one, many) = (of(1), of(number));
        enter(client, &many).await?;
        let mut pairs = Pairs::new();
        for _ in 0..7 {
            pairs.add(enter(client, &one).await?, enter(client, &many).await?);
        }
        let name = format!("{number} tokens of {number} issuers in turn, HS256, beside one issuer");
        pairs.report(&name, number * TIMES, "(goal: 1)");
    }
    Ok(())
}
