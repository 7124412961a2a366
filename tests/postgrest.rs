//! `tenancy.pre_request` under the statements that PostgREST sends: one transaction a request, all values as bind
//! parameters, the role switched before the hook is called (`txVarQuery` and `preReqQuery` of its module PreQuery).

use crate::common::*;
use serde_json::{Value, json};
use tokio_postgres::Client;

const ANONYMOUS: &str = "test_tenancy_anonymous";
const AUTHENTICATOR: &str = "test_tenancy_authenticator";

/// The roles of a PostgREST set-up: one that logs in and has nothing, and those it may become.
async fn authenticator(database: &Database) -> Client {
    // An advisory lock is one database's, and the roles are those of all.
    let admin = connect(database.config().dbname("postgres")).await;
    run(&admin, "SELECT pg_advisory_lock(7326)").await;
    for role in [ANONYMOUS, AUTHENTICATOR] {
        if count(&admin, &format!("SELECT count(*) FROM pg_roles WHERE rolname = '{role}'")).await == 0 {
            run(&admin, &format!("CREATE ROLE {role}")).await;
        }
    }
    let password = std::env::var("PGPASSWORD").unwrap_or_default().replace('\'', "''");
    let roles = format!(
        "ALTER ROLE {AUTHENTICATOR} NOINHERIT LOGIN PASSWORD '{password}';
         GRANT {APPLICATION}, {ANONYMOUS} TO {AUTHENTICATOR}; GRANT tenancy_application TO {ANONYMOUS};
         SELECT pg_advisory_unlock(7326)"
    );
    run(&admin, &roles).await;
    run(&database.superuser().await, &format!(r#"GRANT SELECT ON public."Finding" TO {ANONYMOUS}"#)).await;
    connect(database.config().user(AUTHENTICATOR)).await
}

/// A request as PostgREST carries it out; returns the rows of the main query, or the first error.
async fn request(client: &Client, role: &str, headers: &str, main: &str) -> Result<Vec<String>, Refusal> {
    let begin = if main.starts_with("SELECT") { "READ ONLY" } else { "READ WRITE" };
    run(client, &format!("BEGIN ISOLATION LEVEL READ COMMITTED {begin}")).await;
    let variables = "select set_config('search_path', $1, true), set_config('role', $2, true), \
        set_config('request.jwt.claims', $3, true),
        set_config('request.method', $4, true), set_config('request.path', $5, true), set_config('request.headers', \
        $6, true), set_config('request.cookies', $7, true)";
    let claims = json!({ "role": role }).to_string();
    let answer = async {
        client.execute(variables, &[&"\"public\"", &role, &claims, &"GET", &"/Finding", &headers, &"{}"]).await?;
        client.execute("select \"tenancy\".\"pre_request\"()", &[]).await?;
        client.query(main, &[]).await
    };
    let answer = answer.await.map_err(|error| Refusal::of(&error));
    run(client, if answer.is_ok() { "COMMIT" } else { "ROLLBACK" }).await;
    Ok(answer?.iter().map(|row| row.get(0)).collect())
}

const COUNT: &str = r#"SELECT count(*)::text FROM "Finding""#;
const WHO: &str = "SELECT tenancy.whoami()::text";

fn bearer(token: &str) -> Value {
    json!({"authorization": format!("Bearer {token}"), "host": "localhost:3000"})
}

#[test]
fn each_request_has_the_identity_of_its_own_token() {
    in_database(async |database| {
        let client = authenticator(database).await;
        for (subject, findings) in [("alice", "5"), ("bob", "7"), ("alice", "5")] {
            let headers = bearer(&database.token(subject)).to_string();
            assert_eq!(request(&client, APPLICATION, &headers, COUNT).await.unwrap(), [findings]);
            assert_eq!(
                whoami_or_nobody(&client).await,
                json!({"authenticated": false}),
                "the identity ends with the request"
            );
        }
        let headers = bearer(&database.token("alice")).to_string();
        let insert = r#"INSERT INTO "Finding" (title) VALUES ('by a request') RETURNING "organizationId"::text"#;
        assert_eq!(request(&client, APPLICATION, &headers, insert).await.unwrap(), [ACME.to_string()]);
    });
}

/// The authenticator itself may not call the function, the role it may become may.
async fn whoami_or_nobody(client: &Client) -> Value {
    run(client, &format!("SET ROLE {APPLICATION}")).await;
    let who = whoami(client).await;
    run(client, "RESET ROLE").await;
    who
}

#[test]
fn the_scheme_is_compared_without_regard_to_case() {
    in_database(async |database| {
        let client = authenticator(database).await;
        let token = database.token("alice");
        for header in [format!("bearer {token}"), format!("BEARER   {token}"), format!(" BeArEr {token} ")] {
            let headers = json!({"authorization": header}).to_string();
            assert_eq!(request(&client, APPLICATION, &headers, COUNT).await.unwrap(), ["5"], "{headers}");
        }
    });
}

#[test]
fn headers_name_the_organization_and_the_correlation() {
    in_database(async |database| {
        let client = authenticator(database).await;
        let carol = bearer(&database.token("carol"));
        let with = |more: Value| {
            let mut headers = carol.clone();
            headers.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            headers.to_string()
        };
        let unnamed = request(&client, APPLICATION, &with(json!({})), COUNT).await.unwrap_err();
        assert_eq!(unnamed.sqlstate, "28000");
        let empty = request(&client, APPLICATION, &with(json!({"x-organization-id": ""})), COUNT).await.unwrap_err();
        assert_eq!(empty, unnamed);
        for (organization, findings) in [(ACME, "5"), (GLOBEX, "7")] {
            let headers = with(json!({ "x-organization-id": organization }));
            assert_eq!(request(&client, APPLICATION, &headers, COUNT).await.unwrap(), [findings]);
        }
        let foreign = with(json!({ "x-organization-id": INITECH }));
        assert_eq!(request(&client, APPLICATION, &foreign, COUNT).await.unwrap_err().sqlstate, "28000");
        let no_uuid = with(json!({"x-organization-id": "acme"}));
        assert_eq!(request(&client, APPLICATION, &no_uuid, COUNT).await.unwrap_err().sqlstate, "22023");
        for (more, correlation) in [
            (json!({}), Value::Null),
            (json!({"x-request-id": "r"}), json!("r")),
            (json!({"x-correlation-id": "c", "x-request-id": "r"}), json!("c")),
            (json!({"x-correlation-id": "", "x-request-id": "r"}), json!("r")),
        ] {
            let mut headers = more;
            headers["x-organization-id"] = json!(ACME);
            let who = request(&client, APPLICATION, &with(headers.clone()), WHO).await.unwrap();
            let who: Value = serde_json::from_str(&who[0]).unwrap();
            assert_eq!(who["correlation_id"], correlation, "{headers}");
        }
        let long = with(json!({"x-organization-id": ACME, "x-request-id": "r".repeat(201)}));
        assert_eq!(request(&client, APPLICATION, &long, COUNT).await.unwrap_err().sqlstate, "22023");
    });
}

#[test]
fn without_an_authorization_header_a_request_reads_no_protected_table() {
    in_database(async |database| {
        let client = authenticator(database).await;
        for headers in ["", "{}", r#"{"host":"x"}"#, r#"{"Authorization":"Bearer x"}"#, r#"{"authorization":null}"#] {
            for role in [ANONYMOUS, APPLICATION] {
                let who = request(&client, role, headers, WHO).await.unwrap();
                assert_eq!(who, [r#"{"authenticated": false}"#], "{headers}");
                let refusal = request(&client, role, headers, COUNT).await.unwrap_err();
                assert_eq!(refusal.message, "no organization is authenticated in this transaction", "{headers}");
                assert_eq!(refusal.sqlstate, "28000");
            }
        }
    });
}

#[test]
fn an_authorization_header_that_is_not_one_bearer_token_is_refused() {
    in_database(async |database| {
        let client = authenticator(database).await;
        let token = database.token("alice");
        for header in [
            json!(""),
            json!("Bearer"),
            json!("Bearer "),
            json!(token),
            json!(format!("Basic {token}")),
            json!(format!("Bearer{token}")),
            json!(format!("Bearer {token} {token}")),
            json!(format!("Bearer {token}, Bearer {token}")),
            json!(format!("Bearer {token}\nX: y")),
            json!(format!("Bearer \"{token}\"")),
            json!(["Bearer", token]),
            json!({ "Bearer": token }),
            json!(1),
        ] {
            let headers = json!({ "authorization": header }).to_string();
            let refusal = request(&client, APPLICATION, &headers, COUNT).await.unwrap_err();
            assert_eq!(refusal.sqlstate, "28000", "{headers}: {refusal:?}");
            assert_eq!(refusal.message, "the Authorization header does not hold exactly one bearer token", "{headers}");
            assert!(!format!("{refusal:?}").contains(&token), "{refusal:?}");
        }
        for headers in ["[]", "1", "null", "\"x\"", "{", "x", r#"[{"authorization":"Bearer x"}]"#] {
            let refusal = request(&client, APPLICATION, headers, COUNT).await.unwrap_err();
            assert_eq!(refusal.message, "the setting request.headers is not a JSON object", "{headers}");
            assert_eq!(refusal.sqlstate, "28000");
        }
    });
}

/// SQL injection can set request.headers and request.jwt.claims as PostgREST does. Nothing but a good token counts.
#[test]
fn forged_settings_gain_nothing() {
    in_database(async |database| {
        let client = database.application().await;
        let claims = json!({"sub": "bob", "role": "service_role", "org_id": GLOBEX}).to_string();
        for forged in [
            bearer(&Issuer::generate().token("bob")).to_string(),
            bearer(&database.issuer.token_until("bob", -10)).to_string(),
            json!({"x-organization-id": GLOBEX, "role": "admin", "sub": "bob"}).to_string(),
        ] {
            run(&client, "BEGIN").await;
            let set = "SELECT set_config('request.headers', $1, true), set_config('request.jwt.claims', $2, true)";
            client.execute(set, &[&forged, &claims]).await.unwrap();
            run(&client, "SAVEPOINT s").await;
            client.batch_execute("SELECT tenancy.pre_request()").await.ok();
            run(&client, "ROLLBACK TO s").await;
            assert_eq!(refused(&client, COUNT).await.sqlstate, "28000", "{forged}");
            run(&client, "ROLLBACK").await;
        }
        // Objects that stand in front of the extension's own are not found: the function has its search_path.
        run(
            &client,
            "BEGIN; CREATE FUNCTION pg_temp.current_setting(text, boolean) RETURNS text LANGUAGE sql AS $$ \
            SELECT 'x' $$;
                      SET LOCAL search_path = pg_temp, pg_catalog; SELECT tenancy.pre_request(); ROLLBACK",
        )
        .await;
    });
}
