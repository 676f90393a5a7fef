//! Settings that are connection strings. They hold passwords, so no problem repeats one.

use std::{collections::BTreeSet, error::Error, net::IpAddr, path::Path};

use sqlx::postgres::{PgConnectOptions, PgSslMode};
use url::Url;

use super::{Address, certificates};
use crate::config::{Problems, Secret};

/// The parameters that have an effect, as problems list them.
const PARAMETERS: [&str; 13] = [
    "application_name",
    "dbname",
    "host",
    "hostaddr",
    "options",
    "password",
    "port",
    "sslcert",
    "sslkey",
    "sslmode",
    "sslrootcert",
    "statement-cache-capacity",
    "user",
];

/// The most unknown ones that are named.
const MAX_UNKNOWN: usize = 5;

/// Other names of some of them.
const ALIASES: [(&str, &str); 5] = [
    ("ssl-ca", "sslrootcert"),
    ("ssl-cert", "sslcert"),
    ("ssl-key", "sslkey"),
    ("ssl-mode", "sslmode"),
    ("ssl-root-cert", "sslrootcert"),
];

const SSL_MODES: &str = "disable, allow, prefer, require, verify-ca or verify-full";

const SEVERAL_HOSTS: &str = "names several hosts, and only one is supported: use an address that follows the primary";
const CUT: &str = "has a character that ends the password or the name too early: percent-encode it (/ is %2F, ? is %3F, \
                   # is %23, @ is %40), or leave the password out and set PGPASSWORD or DATABASE_PASSWORD_FILE";

impl Problems {
    /// Parses a PostgreSQL connection string, whose password may be in a file instead. Its text is a secret and is not part
    /// of the problem.
    pub fn database_url(&mut self, name: &str, text: Option<&Secret>, password_file: Option<&Path>) -> Option<Address> {
        let options = self.connect_options(name, text)?;
        let address = Address::from(options);
        let Some(file) = password_file else { return Some(address) };
        if text.is_some_and(|text| has_password(text.expose())) {
            self.add(format!("{name} has a password, and --database-password-file is set: use only one of them"));
            return None;
        }
        let problem = |error| format!("--database-password-file: {} cannot be read: {error}", file.display());
        address.with_password_file(file).map_err(|error| self.add(problem(error))).ok()
    }

    fn connect_options(&mut self, name: &str, text: Option<&Secret>) -> Option<PgConnectOptions> {
        let Some(url) = text else {
            self.add(format!("{name} is required, such as postgres://user:password@host:5432/database"));
            return None;
        };
        let text = url.expose().trim();
        if !["postgres", "postgresql"].contains(&text.split("://").next().unwrap_or_default()) {
            self.add(format!("{name} does not begin with postgres://"));
            return None;
        }
        match parse(text) {
            Ok(options) => Some(options),
            Err(problems) => {
                for problem in problems {
                    self.add(format!("{name} {problem}"));
                }
                None
            }
        }
    }
}

/// A connection string, or all that is wrong with it.
fn parse(text: &str) -> Result<PgConnectOptions, Vec<String>> {
    let parts = Parts::of(text);
    if parts.host.contains(',') && !parts.is_cut() {
        return Err(vec![SEVERAL_HOSTS.to_owned()]);
    }
    let mut url = match text.parse::<Url>() {
        Ok(_) if parts.is_cut() => return Err(vec![CUT.to_owned()]),
        Err(_) if parts.tail.contains('@') => return Err(vec![CUT.to_owned()]),
        Err(error) => return Err(vec![not_a_url(&error)]),
        Ok(url) => url,
    };
    let mut parameters = Parameters::of(&url);
    let mut problems = parameters.unknown();
    problems.extend(parameters.wrong_values());
    parameters.take_ipv6(&url);
    problems.extend(parameters.take_system_roots());
    problems.extend(parameters.certificates());
    if parameters.is_changed {
        url.query_pairs_mut().clear().extend_pairs(&parameters.pairs);
    }
    let options = url.as_str().parse::<PgConnectOptions>();
    if let Err(error) = &options
        && problems.is_empty()
    {
        problems.push(not_a_url(innermost(error)));
    }
    if options.as_ref().is_ok_and(|options| options.get_host().contains(',')) {
        problems.push(SEVERAL_HOSTS.to_owned());
    }
    options.ok().filter(|_| problems.is_empty()).ok_or(problems)
}

/// The error without the ones around it that only say that the configuration is wrong.
fn innermost<'e>(error: &'e (dyn Error + 'static)) -> &'e (dyn Error + 'static) {
    error.source().map_or(error, innermost)
}

fn has_password(text: &str) -> bool {
    let is_parameter = |url: &Url| url.query_pairs().any(|(key, _)| key == "password");
    text.trim().parse::<Url>().is_ok_and(|url| url.password().is_some() || is_parameter(&url))
}

fn not_a_url(error: &dyn Error) -> String {
    format!("is not a PostgreSQL connection string: {error}")
}

/// The text of a connection string, split as a parser of URLs splits it.
struct Parts<'t> {
    /// Hosts and ports.
    host: &'t str,
    /// Everything from the path on.
    tail: &'t str,
}

impl<'t> Parts<'t> {
    fn of(text: &'t str) -> Self {
        let (_, rest) = text.split_once("://").unwrap_or_default();
        let (authority, tail) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        Self { host, tail }
    }

    /// True if a special character of the password has ended it: what follows the path then has the rest of it.
    fn is_cut(&self) -> bool {
        let (path, query) = self.tail.split_once('?').unwrap_or((self.tail, ""));
        let is_unknown = |pair: &str| !is_known(pair.split('=').next().unwrap_or_default());
        self.tail.contains('#') || path.contains('@') || (query.contains('@') && query.split('&').any(is_unknown))
    }
}

/// The parameters after the `?`.
struct Parameters {
    pairs: Vec<(String, String)>,
    is_changed: bool,
}

impl Parameters {
    fn of(url: &Url) -> Self {
        let pairs = url.query_pairs().map(|(key, value)| (key.into_owned(), value.into_owned())).collect();
        Self { pairs, is_changed: false }
    }

    /// The value that counts: the last one.
    fn get(&self, name: &str) -> Option<&str> {
        self.pairs.iter().rfind(|(key, _)| canonical(key) == name).map(|(_, value)| value.as_str())
    }

    /// Problems with parameters that would have no effect, at most a few: a slip must not turn TLS checks off, for example.
    fn unknown(&self) -> Vec<String> {
        let unknown: BTreeSet<&String> = self.pairs.iter().map(|(key, _)| key).filter(|key| !is_known(key)).collect();
        let (unknown, known) = (unknown.iter().take(MAX_UNKNOWN), PARAMETERS.join(", "));
        unknown.map(|key| format!("has the parameter {key:?}, which is not supported; supported are {known}")).collect()
    }

    /// Problems with values, which are not repeated: the end of a password may look like one. The driver would ignore the
    /// variable for its value.
    fn wrong_values(&self) -> Vec<String> {
        let is_wrong_mode = |mode: &str| mode.parse::<PgSslMode>().is_err();
        let wrong = |key: &str, value: &str| match canonical(key) {
            "sslmode" if is_wrong_mode(value) => Some(format!("has an sslmode that is not {SSL_MODES}")),
            "port" if value.parse::<u16>().is_err() => Some("has a port that is not a number up to 65535".to_owned()),
            "hostaddr" if value.parse::<IpAddr>().is_err() => {
                Some("has a hostaddr that is not an IP address".to_owned())
            }
            "statement-cache-capacity" if value.parse::<usize>().is_err() => {
                Some("has a statement-cache-capacity that is not a number".to_owned())
            }
            _ => None,
        };
        let variable =
            std::env::var("PGSSLMODE").ok().filter(|mode| self.get("sslmode").is_none() && is_wrong_mode(mode));
        let of_variable = variable.map(|_| format!("has no sslmode, and the variable PGSSLMODE is not {SSL_MODES}"));
        self.pairs.iter().filter_map(|(key, value)| wrong(key, value)).chain(of_variable).collect()
    }

    /// Writes an IPv6 address as a parameter, without the brackets that belong to the URL: they are no part of a host.
    fn take_ipv6(&mut self, url: &Url) {
        let literal = |host: &str| Some(host.strip_prefix('[')?.strip_suffix(']')?.to_owned());
        for (key, value) in &mut self.pairs {
            if let Some(address) = literal(value).filter(|_| key == "host") {
                (*value, self.is_changed) = (address, true);
            }
        }
        if let Some(address) = url.host_str().and_then(literal)
            && self.get("host").or(self.get("hostaddr")).is_none()
        {
            self.pairs.push(("host".to_owned(), address));
            self.is_changed = true;
        }
    }

    /// Replaces `sslrootcert=system`, which asks for the public authorities and a full check: those apply without a file.
    fn take_system_roots(&mut self) -> Option<String> {
        if self.get("sslrootcert") != Some("system") {
            return None;
        }
        if self.get("sslmode").is_some_and(|mode| mode != "verify-full") {
            return Some("has sslrootcert=system, which needs sslmode=verify-full".to_owned());
        }
        self.pairs.retain(|(key, _)| canonical(key) != "sslrootcert");
        self.pairs.push(("sslmode".to_owned(), "verify-full".to_owned()));
        self.is_changed = true;
        None
    }

    /// Problems with the files of certificates: the driver reads them when it connects, where a mistake looks like an outage.
    fn certificates(&self) -> Vec<String> {
        let setting = |name: &str, variable: &str| {
            let parameter = self.get(name).map(|value| (name.to_owned(), value.to_owned()));
            parameter.or_else(|| Some((variable.to_owned(), std::env::var(variable).ok()?)))
        };
        certificates::problems(
            setting("sslrootcert", "PGSSLROOTCERT"),
            setting("sslcert", "PGSSLCERT"),
            setting("sslkey", "PGSSLKEY"),
        )
    }
}

fn canonical(key: &str) -> &str {
    ALIASES.iter().find(|(alias, _)| *alias == key).map_or(key, |(_, name)| name)
}

fn is_known(key: &str) -> bool {
    PARAMETERS.contains(&canonical(key)) || (key.starts_with("options[") && key.ends_with(']'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(url: &str) -> String {
        let mut problems = Problems::default();
        let parsed = problems.connect_options("--database-url", Some(&Secret::new(url)));
        problems.finish(parsed.map(|_| ())).expect_err(url).to_string()
    }

    fn parsed(url: &str) -> PgConnectOptions {
        let mut problems = Problems::default();
        let parsed = problems.connect_options("--database-url", Some(&Secret::new(url)));
        problems.finish(parsed).expect(url)
    }

    #[test]
    fn a_problem_does_not_repeat_the_url() {
        assert!(!problem("postgres://topsecret@localhost:x/y").contains("topsecret"));
    }

    #[test]
    fn a_parameter_without_effect_is_a_problem() {
        for parameter in ["sslmod=verify-full", "target_session_attrs=read-write", "options[x=1", "connect_timeout=3"] {
            let name = parameter.split('=').next().unwrap();
            let said = problem(&format!("postgres://u:p@h/d?sslmode=disable&{parameter}"));
            assert!(said.contains(name) && said.contains("sslrootcert"), "{said}");
        }
    }

    #[test]
    fn the_problem_with_many_unknown_parameters_is_bounded() {
        let many: Vec<String> = (0..1_000).map(|n| format!("a{n}=1&a{n}=2")).collect();
        let said = problem(&format!("postgres://u:p@h/d?{}", many.join("&")));
        assert!(said.contains("5 problem(s)") && said.contains("\"a0\""), "{said}");
    }

    #[test]
    fn a_wrong_value_is_one_sentence_that_names_the_parameter() {
        for (parameter, expected) in [
            (
                "sslmode=verifyfull",
                "--database-url has an sslmode that is not disable, allow, prefer, require, verify-ca or verify-full",
            ),
            (
                "ssl-mode=on",
                "--database-url has an sslmode that is not disable, allow, prefer, require, verify-ca or verify-full",
            ),
            ("port=99999", "--database-url has a port that is not a number up to 65535"),
            ("hostaddr=h", "--database-url has a hostaddr that is not an IP address"),
            ("statement-cache-capacity=x", "--database-url has a statement-cache-capacity that is not a number"),
        ] {
            let said = problem(&format!("postgres://u@h/d?{parameter}"));
            assert_eq!(said, format!("the configuration has 1 problem(s):\n  - {expected}"));
        }
        let said = problem("postgres://%FF:p@h/d");
        assert_eq!(said.matches("configuration").count(), 1, "{said}");
    }

    #[test]
    fn parameters_with_an_effect_are_taken() {
        let url = "postgres://u:p@h/d?ssl-mode=require&application_name=x&statement-cache-capacity=7&options=-c%20a.b=1\
                   &options[c.d]=2&user=me@there&dbname=other&port=7";
        let options = parsed(url);
        assert_eq!((options.get_username(), options.get_port()), ("me@there", 7));
        assert_eq!((options.get_database(), options.get_options()), (Some("other"), Some("-c a.b=1 -c c.d=2")));
        assert_eq!(
            parsed("postgres:///d?host=/run/postgresql").get_socket().unwrap().to_str(),
            Some("/run/postgresql")
        );
    }

    #[test]
    fn several_hosts_are_one_clear_problem() {
        for url in [
            "postgres://u:p@a:5432,b:5432/d?target_session_attrs=read-write",
            "postgres://u:p@a,b/d",
            "postgres:///d?host=a,b",
        ] {
            let said = problem(url);
            assert!(said.contains("1 problem(s)") && said.contains("several hosts"), "{url}: {said}");
        }
    }

    #[test]
    fn a_password_that_breaks_the_url_is_explained_and_not_repeated() {
        for url in [
            "postgres://u:se/cret@h:5432/d",
            "postgres://u:se#cret@h:5432/d",
            "postgres://u:se?cret@h:5432/d",
            "postgres://u:12?cret=1@h/d",
            "postgres://u:12/cret@h/d",
            "postgres://u:12#cret@h/d",
            "postgres://u:se@12?cret=1@h/d",
        ] {
            let said = problem(url);
            assert!(said.contains("percent-encode") && said.contains("PGPASSWORD"), "{url}: {said}");
            assert!(!said.contains("cret"), "{url}: {said}");
        }
        assert_eq!(parsed("postgres://u:a%2Fb%3Fc%23d%40e@h/d").get_host(), "h");
    }

    #[test]
    fn an_ipv6_address_is_a_host_without_brackets() {
        for url in ["postgres://u:p@[::1]:5433/d", "postgres://u:p@x/d?host=[::1]&port=5433"] {
            let options = parsed(url);
            assert_eq!((options.get_host(), options.get_port()), ("::1", 5433), "{url}");
            assert_eq!((options.get_username(), options.get_database()), ("u", Some("d")), "{url}");
        }
    }

    #[test]
    fn the_public_authorities_come_with_a_full_check() {
        for url in ["postgres://h/d?sslrootcert=system", "postgres://h/d?sslmode=verify-full&ssl-ca=system"] {
            assert!(matches!(parsed(url).get_ssl_mode(), PgSslMode::VerifyFull), "{url}");
        }
        assert!(problem("postgres://h/d?sslrootcert=system&sslmode=require").contains("verify-full"));
    }

    #[test]
    fn a_certificate_that_cannot_be_used_is_named() {
        let folder = std::env::temp_dir().join(format!("parlance-certificates-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let file = folder.join("root.pem").to_str().unwrap().to_owned();
        assert!(problem(&format!("postgres://h/d?sslmode=verify-full&sslrootcert={file}")).contains(&file));
        for text in ["", "no certificate", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
            std::fs::write(&file, text).unwrap();
            for parameters in [format!("sslrootcert={file}"), format!("sslcert={file}&sslkey={file}")] {
                let said = problem(&format!("postgres://h/d?sslmode=verify-full&{parameters}"));
                assert!(said.contains(&file), "{text:?} {parameters}: {said}");
            }
        }
        assert!(problem(&format!("postgres://h/d?sslcert={file}")).contains("sslkey"));
        std::fs::remove_dir_all(folder).unwrap();
    }
}
