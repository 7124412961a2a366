//! The scripts of `examples/keys`, each as the `tenancy.key_wrap_command` of a server: with `age` itself, and with
//! stand-ins of Vault and AWS KMS that speak their protocols (`tests/key_services/stand_in.py`).

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use crate::common::server::{as_server, succeeds};
use crate::common::*;
use crate::secret_keys::{Keys, add, on_a_server, rotate, status, tamper};
use tokio_postgres::Client;

const KEY: &str = "finops-1";
const TOKEN: &str = "hvs.stand-in";
const BEHIND: &str = "SELECT behind FROM tenancy.key_status()";

/// A service on a port of this machine. Its end stops it.
struct StandIn {
    process: Child,
    port: u16,
}

impl StandIn {
    fn start(service: &str, keys: &Keys) -> Option<Self> {
        keys.write("requests", "");
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/key_services/stand_in.py");
        let mut command = Command::new(python()?);
        command.args(["-B", script, service]).arg(keys.path("requests"));
        let mut process = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut port = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut port).unwrap();
        Some(StandIn { process, port: port.trim().parse().unwrap() })
    }

    /// Gives a transit key of Vault another version.
    fn rotate(&self, key: &str) {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        let request = format!(
            "POST /v1/transit/rotate/{key} HTTP/1.1\r\nHost: vault\r\nX-Vault-Token: {TOKEN}\r\nContent-Length: 0\r\n\
             Connection: close\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

/// What the service was asked for since the last call.
fn requests(keys: &Keys) -> Vec<String> {
    let requests = keys.read("requests").lines().map(str::to_owned).collect();
    succeeds(as_server("truncate").args(["-s", "0"]).arg(keys.path("requests")));
    requests
}

/// A session wraps a key, another one unwraps it, and a row that was moved does not unwrap.
async fn keys_are_wrapped_and_bound(keys: &Keys, client: &Client) {
    add(client, KEY, "command").await;
    run(client, &rotate(ACME)).await;
    assert_eq!(status(client, KEY).await.0, "yes");
    run(&keys.client().await, &rotate(ACME)).await;

    let stored = format!("organization = '{ACME}'");
    let moved = format!("organization = '{GLOBEX}'");
    tamper(client, &format!("UPDATE tenancy.data_key SET {moved} WHERE {stored}")).await;
    let refusal = refused(&keys.client().await, &rotate(GLOBEX)).await;
    assert!(refusal.detail.as_ref().unwrap().contains("exit status"), "{refusal:?}");
    tamper(client, &format!("UPDATE tenancy.data_key SET {stored} WHERE {moved}")).await;
    run(&keys.client().await, &rotate(ACME)).await;
}

#[test]
fn vault_wraps_all_keys_of_a_run_in_one_request() {
    on_a_server("key-vault", async |keys, client| {
        let Some(vault) = StandIn::start("vault", keys) else { return };
        keys.write("token", TOKEN);
        keys.write("vault_transit.py", include_str!("../examples/keys/vault_transit.py"));
        let (port, python) = (vault.port, "exec python3 -B vault_transit.py");
        keys.write("service", &format!("VAULT_ADDR=http://127.0.0.1:{port} VAULT_TOKEN_FILE=token {python} \"$@\""));
        keys_are_wrapped_and_bound(keys, client).await;
        assert!(requests(keys).contains(&"refused 400".to_owned()), "the moved key reached the service");

        let wrapped = count(client, "SELECT count(*) FROM tenancy.data_key").await;
        assert_eq!(count(client, BEHIND).await, 0);
        vault.rotate(KEY);
        assert_eq!(count(client, BEHIND).await, wrapped);
        requests(keys);
        run(client, "CALL tenancy.rewrap_data_keys()").await;
        assert!(requests(keys).contains(&format!("encrypt {wrapped}")));
        assert_eq!(count(client, BEHIND).await, 0);

        keys.write("token", "hvs.another");
        let refusal = refused(client, &rotate(ACME)).await;
        assert_eq!(refusal.sqlstate, "F0000");
        let log = succeeds(as_server("cat").arg(keys.log()));
        assert!(!format!("{refusal:?}{log}").contains("hvs."), "the token is told");
        assert!(requests(keys).contains(&"refused 403".to_owned()));
    });
}

#[test]
fn aws_kms_binds_each_key_by_its_encryption_context() {
    on_a_server("key-kms", async |keys, client| {
        let Some(kms) = StandIn::start("kms", keys) else { return };
        let python = python().unwrap();
        keys.write("aws_kms.py", include_str!("../examples/keys/aws_kms.py"));
        let service = format!(
            "AWS_ENDPOINT_URL_KMS=http://127.0.0.1:{} AWS_DEFAULT_REGION=eu-central-1 AWS_ACCESS_KEY_ID=AKIAEXAMPLE \
             AWS_SECRET_ACCESS_KEY=stand-in AWS_EC2_METADATA_DISABLED=true exec '{}' -B aws_kms.py \"$@\"",
            kms.port,
            python.display()
        );
        keys.write("service", &service);
        keys_are_wrapped_and_bound(keys, client).await;
        let requests = requests(keys);
        assert!(requests.contains(&"encrypt 1".to_owned()) && requests.contains(&"refused 400".to_owned()));
        assert_eq!(count(client, BEHIND).await, 0, "KMS tells no version");

        drop(kms);
        assert_eq!(refused(client, &rotate(ACME)).await.sqlstate, "F0000");
    });
}

#[test]
fn age_wraps_to_recipients_of_which_each_unwraps_alone() {
    if Command::new("age").arg("--version").output().is_err() {
        skipped("tools/setup.sh clients has not installed age");
        return;
    }
    on_a_server("key-age", async |keys, client| {
        keys.write("age.sh", include_str!("../examples/keys/age.sh"));
        keys.write("service", "AGE_KEYS=. exec bash age.sh \"$@\"");
        let identity = |name: &str| {
            succeeds(as_server("age-keygen").arg("-o").arg(keys.path(name)));
            succeeds(as_server("age-keygen").arg("-y").arg(keys.path(name)))
        };
        let (own, spare) = (identity("finops-1.identity"), identity("spare"));
        keys.write("finops-1.recipients", &format!("{own}{spare}"));
        keys_are_wrapped_and_bound(keys, client).await;
        keys.write("finops-1.identity", &keys.read("spare"));
        run(&keys.client().await, &rotate(ACME)).await;
        assert_eq!(status(client, KEY).await.0, "yes", "the spare key opens what both were given");

        assert_eq!(count(client, BEHIND).await, 0);
        let another = identity("another");
        keys.write("finops-1.recipients", &format!("{own}{spare}{another}"));
        assert!(count(client, BEHIND).await > 0, "other recipients are another version");
        run(client, "CALL tenancy.rewrap_data_keys()").await;
        assert_eq!(count(client, BEHIND).await, 0);
        let stored = "SELECT encode(wrapped, 'escape') FROM tenancy.data_key";
        let recipients = column(client, stored).await.iter().map(|file| file.matches("-> X25519").count()).min();
        assert_eq!(recipients, Some(3));
    });
}
