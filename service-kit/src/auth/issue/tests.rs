use super::*;
use crate::auth::{
    Verifier,
    testing::{Files, SECRET, at, settings, verifier},
};

fn new(subject: &str, role: Role, lifetime: Duration) -> NewToken<'_> {
    NewToken { subject, role, lifetime, audience: None, issued_at: at(0) }
}

#[tokio::test]
async fn what_is_signed_is_taken() {
    let files = Files::new();
    let file = files.secret("a", SECRET);
    let issuer = Issuer::open(&file, "parlance", Duration::from_hours(24)).unwrap();
    let verifier = verifier();
    for role in Role::ALL {
        let token = issuer.sign(&new("ada", role, Duration::from_hours(1))).unwrap();
        let principal = verifier.verify(token.expose(), at(1)).await.unwrap();
        assert_eq!((&*principal.subject, principal.role), ("ada", role));
        assert_eq!(principal.expires_at - principal.issued_at, 3600);
        assert_eq!(Uuid::parse_str(principal.jti.as_deref().unwrap()).unwrap().get_version_num(), 7);
        assert!(!format!("{token:?} {issuer:?}").contains(token.expose()));
    }
    let elsewhere = NewToken { audience: Some("other"), ..new("ada", Role::User, Duration::from_hours(1)) };
    assert!(verifier.verify(issuer.sign(&elsewhere).unwrap().expose(), at(1)).await.is_err());
}

#[test]
fn bounds_are_those_of_verification() {
    let files = Files::new();
    let issuer = Issuer::open(&files.secret("a", SECRET), "parlance", Duration::from_hours(24)).unwrap();
    let sign = |subject: &str, role, lifetime| issuer.sign(&new(subject, role, lifetime)).map(drop);
    let (hour, day) = (Duration::from_hours(1), Duration::from_hours(24));
    assert_eq!(sign("ada", Role::User, day), Ok(()));
    assert_eq!(sign("ada", Role::User, day + Duration::from_secs(1)), Err(IssueError::Lifetime(day)));
    assert_eq!(sign("ada", Role::User, Duration::from_millis(999)), Err(IssueError::Lifetime(day)));
    assert_eq!(sign("backend", Role::Service, day * 90), Ok(()));
    assert!(matches!(sign("backend", Role::Service, day * 91), Err(IssueError::Lifetime(_))));
    assert!(matches!(sign("~d1", Role::User, hour), Err(IssueError::Subject(_))));
    assert!(matches!(sign("a\n", Role::Service, hour), Err(IssueError::Subject(_))));
    assert_eq!(IssueError::Lifetime(day).to_string(), "the lifetime of a token of this role is 1s to 1day");
}

#[tokio::test]
async fn a_service_renews_its_own_token_at_four_fifths_of_its_life() {
    let files = Files::new();
    let verifier = Verifier::open(&settings(vec![files.secret("a", SECRET)])).unwrap();
    let token = SelfToken::signed(verifier.issuer().unwrap(), "message-service", Role::Directory);
    let first = token.header(at(0)).unwrap();
    assert!(first.is_sensitive());
    let text = first.to_str().unwrap().strip_prefix("Bearer ").unwrap();
    let principal = verifier.verify(text, at(0)).await.unwrap();
    assert_eq!((&*principal.subject, principal.role), ("message-service", Role::Directory));
    assert_eq!(token.header(at(239)).unwrap(), first);
    let second = token.header(at(240)).unwrap();
    assert_ne!(second, first);
    assert_ne!(token.header(at(0)).unwrap(), second, "the clock was set back");
    let current = token.header(at(0)).unwrap();
    token.reload().await;
    assert_ne!(token.header(at(0)).unwrap(), current);
    // The name of the secret stays the same.
    files.write("a", format!("{SECRET}2"));
    verifier.reload().await;
    let rotated = token.header(at(0)).unwrap();
    let text = rotated.to_str().unwrap().strip_prefix("Bearer ").unwrap();
    assert!(verifier.verify(text, at(0)).await.is_ok(), "a token of the secret before would be refused");
}

#[tokio::test(start_paused = true)]
async fn a_token_file_is_read_again() {
    let files = Files::new();
    let lifecycle = Lifecycle::new();
    let path = files.write("token", "one.two.three\n");
    let token = SelfToken::read(path.clone(), &lifecycle).unwrap();
    assert_eq!(token.header(at(0)).unwrap(), "Bearer one.two.three");
    files.write("token", "four.five.six");
    let renewed = async {
        while token.header(at(0)).unwrap() != "Bearer four.five.six" {
            sleep(Duration::from_secs(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_mins(1), renewed).await.unwrap();
    files.write("token", "");
    token.reload().await;
    assert_eq!(token.header(at(0)).unwrap(), "Bearer four.five.six");
    assert!(!format!("{token:?}").contains("four"));
    for bad in ["", "two words", "a\u{e9}"] {
        files.write("token", bad);
        assert!(SelfToken::read(path.clone(), &lifecycle).unwrap_err().contains("token holds no token"), "{bad}");
    }
    lifecycle.shutdown(crate::lifecycle::Grace::default()).await;
}
