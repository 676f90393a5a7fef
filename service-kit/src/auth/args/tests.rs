use super::*;
use crate::command::parse_flags;

fn parsed(flags: &[&str]) -> Result<Settings, String> {
    let mut problems = Problems::default();
    let settings = parse_flags::<AuthArgs>(flags).unwrap().parse(&mut problems);
    problems.finish(settings).map_err(|problems| problems.to_string())
}

#[test]
fn a_source_makes_tokens_required() {
    assert_eq!(parsed(&[]).unwrap().mode, Mode::Off);
    assert_eq!(parsed(&["--auth", "", "--token-secret-file", ""]).unwrap().mode, Mode::Off);
    assert_eq!(parsed(&["--token-secret-file", "f"]).unwrap().mode, Mode::Required);
    for (name, mode) in [("off", Mode::Off), ("permissive", Mode::Permissive), ("required", Mode::Required)] {
        assert_eq!(parsed(&["--token-secret-file", "f", "--auth", name]).unwrap().mode, mode);
    }
    assert!(parsed(&["--auth", "required"]).unwrap_err().contains("no source of tokens"));
    assert!(parsed(&["--auth", "permissive"]).unwrap_err().contains("no source of tokens"));
    assert!(parsed(&["--auth", "on"]).unwrap_err().contains("off, permissive or required"));
}

#[test]
fn key_files_may_have_a_name() {
    let settings = parsed(&["--token-secret-file", "/a,k=/b=c", "--token-secret-file", "/d=e"]).unwrap();
    let file = |kid: Option<&str>, path: &str| KeyFile { kid: kid.map(str::to_owned), path: path.into() };
    assert_eq!(settings.secrets, [file(None, "/a"), file(Some("k"), "/b=c"), file(None, "/d=e")]);
    for wrong in ["=f", "k=", "é=f"] {
        assert!(parsed(&["--token-secret-file", wrong]).unwrap_err().contains("KID=FILE"), "{wrong}");
    }
}

#[test]
fn an_identity_provider_has_all_its_settings() {
    let settings = parsed(&[
        "--token-jwks=https://login.example/keys",
        "--token-jwks-issuer=https://login.example",
        "--token-jwks-roles=service",
        "--token-role-of=system:serviceaccount:chat:backend=service,cn=x=directory",
        "--token-jwks-ca-file=/ca.pem",
        "--token-jwks-max-stale=1h",
        "--token-public-key-file=k=/key.pem",
        "--token-issuer=https://other.example",
        "--token-user-claim=preferred_username",
    ]);
    let settings = settings.unwrap();
    let jwks = settings.jwks.unwrap();
    assert_eq!(jwks.issuer, "https://login.example");
    assert_eq!(jwks.roles, [Role::User, Role::Service]);
    let role_of = |subject: &str, role| (subject.to_owned(), role);
    let backend = role_of("system:serviceaccount:chat:backend", Role::Service);
    assert_eq!(jwks.role_of, [backend, role_of("cn=x", Role::Directory)]);
    assert_eq!(jwks.ca_file, Some("/ca.pem".into()));
    assert_eq!(jwks.max_stale, Duration::from_hours(1));
    assert_eq!(settings.public_keys.unwrap().roles, [Role::User]);
    assert_eq!(settings.user_claim, "preferred_username");
}

#[test]
fn what_is_missing_or_wrong_is_named() {
    let jwks = ["--token-jwks=https://a.example/k", "--token-jwks-issuer=a"];
    for (flags, named) in [
        (&["--token-public-key-file", "f"][..], "--token-public-key-file needs --token-issuer"),
        (&["--token-issuer", "i"], "--token-issuer needs --token-public-key-file"),
        (&["--token-public-key-roles", "service"], "--token-public-key-roles needs"),
        (&["--token-jwks", "https://a.example"], "--token-jwks needs --token-jwks-issuer"),
        (&["--token-jwks-issuer", "i"], "--token-jwks-issuer needs --token-jwks"),
        (&["--token-jwks-ca-file", "i"], "--token-jwks-ca-file needs --token-jwks"),
        (&["--token-jwks-roles", "service"], "--token-jwks-roles needs --token-jwks"),
        (&["--token-role-of", "a=service"], "--token-role-of needs --token-jwks"),
        (&["--token-role-of", "service"], "SUBJECT=ROLE"),
        (&["--token-role-of", "a=user"], "SUBJECT=ROLE"),
        (&["--token-role-of", "=service"], "SUBJECT=ROLE"),
        (&[jwks[0], jwks[1], "--token-role-of", "a=service,a=operator"], "twice"),
        (&[jwks[0], jwks[1], "--token-jwks-roles", "admin"], "--token-jwks-roles: \"admin\""),
        (&["--token-jwks=http://a.example/k", jwks[1]], "https"),
        (&["--token-jwks=https://u:p@a.example/k", jwks[1]], "https"),
        (&["--token-jwks=file:///k", jwks[1]], "https"),
        (&["--token-jwks=k", jwks[1]], "--token-jwks"),
        (&["--token-jwks-max-stale=1s"], "--token-jwks-max-stale"),
        (&["--token-clock-skew", "301s"], "--token-clock-skew"),
        (&["--token-max-lifetime", "91d"], "--token-max-lifetime"),
        (&["--token-audience", ""], "--token-audience"),
        (&["--token-role-claim", ""], "--token-role-claim"),
    ] {
        let problems = parsed(flags).unwrap_err();
        assert!(problems.contains(named), "{flags:?}: {problems}");
        assert!(problems.contains("1 problem"), "{flags:?}: {problems}");
    }
    for url in ["http://127.0.0.1:1/k", "http://[::1]:1/k", "http://localhost/k", "https://a.example"] {
        assert!(parsed(&["--token-jwks", url, jwks[1]]).is_ok(), "{url}");
    }
}

#[test]
fn two_sources_of_one_issuer_are_refused() {
    let secret = "--token-secret-file=s";
    let keys = |issuer: &'static str| ["--token-public-key-file=f", "--token-issuer", issuer];
    let jwks = |issuer: &'static str| ["--token-jwks=https://a.example/k", "--token-jwks-issuer", issuer];
    let all = |parts: &[&[&'static str]]| parsed(&parts.concat());
    assert!(all(&[&[secret], &keys("a"), &jwks("b")]).is_ok());
    for parts in [&[&[secret][..], &keys("parlance")][..], &[&[secret], &jwks("parlance")], &[&keys("a"), &jwks("a")]] {
        assert!(all(parts).unwrap_err().contains("give each an issuer of its own"), "{parts:?}");
    }
}
