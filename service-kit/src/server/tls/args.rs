//! The settings of TLS and of the plain port for probes.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use super::{
    Tls,
    settings::{ClientAuth, Clients, MinVersion, Settings},
};
use crate::{config::Problems, server::peer::ClientRoles};

/// The interval at which the files are read again.
const RELOAD_INTERVAL: Duration = Duration::from_secs(10);

/// Flags and environment variables of both services, as text. `parlance serve` has none of them: its parts find each other
/// on loopback without TLS, and a proxy in front of it adds TLS for others.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct TlsArgs {
    /// File with the certificate for TLS and its chain (PEM, the certificate first). With it, the port takes TLS only. It is
    /// read again every 10s, as are the other files of TLS, so it can be replaced while the process runs.
    #[arg(long, env = "TLS_CERT_FILE", value_name = "FILE")]
    pub tls_cert_file: Option<PathBuf>,

    /// File with the private key of the certificate (PEM).
    #[arg(long, env = "TLS_KEY_FILE", value_name = "FILE")]
    pub tls_key_file: Option<PathBuf>,

    /// Oldest version of TLS that is accepted.
    #[arg(long, env = "TLS_MIN_VERSION", value_enum, default_value_t = MinVersion::Tls12, value_name = "VERSION")]
    pub tls_min_version: MinVersion,

    /// File with the certificates of the authorities that issue client certificates (PEM). Without it, clients are asked for
    /// none.
    #[arg(long, env = "TLS_CLIENT_CA_FILE", value_name = "FILE")]
    pub tls_client_ca_file: Option<PathBuf>,

    /// Whether a client must show a certificate. Default, with --tls-client-ca-file: `required`.
    #[arg(long, env = "TLS_CLIENT_AUTH", value_enum, value_name = "WHEN")]
    pub tls_client_auth: Option<ClientAuth>,

    /// File with the revocation lists (CRL, PEM) of the authorities of client certificates: one for each authority, as a
    /// certificate of another one is refused.
    #[arg(long, env = "TLS_CLIENT_CRL_FILE", value_name = "FILE")]
    pub tls_client_crl_file: Option<PathBuf>,

    /// Role (directory, service or operator) of the clients whose certificate has this URI or DNS name as a subject
    /// alternative name, such as `spiffe://example/ns/chat/sa/backend=service`. Names are compared exactly. Repeat it or
    /// separate several by commas. Without a role, a certificate gives no rights.
    #[arg(long, env = "TLS_CLIENT_ROLE", value_delimiter = ',', value_name = "NAME=ROLE")]
    pub tls_client_role: Vec<String>,

    /// Address of a second port, without TLS, that answers health checks and nothing else: for probes that speak no TLS, such
    /// as those of Kubernetes. Port 0 takes a free port. Off by default.
    #[arg(long, env = "HEALTH_LISTEN", value_name = "ADDRESS")]
    pub health_listen: Option<String>,
}

/// [`TlsArgs`] as values.
#[derive(Debug, Clone, Default)]
pub struct Endpoint {
    /// TLS; `None`: plain text.
    pub tls: Option<Tls>,
    /// The address of health checks without TLS.
    pub health_listen: Option<SocketAddr>,
}

/// A problem was added to the list.
struct Reported;

impl TlsArgs {
    /// Reads the files, or adds problems and returns `None`. Blocks.
    pub fn parse(&self, problems: &mut Problems) -> Option<Endpoint> {
        let tls = self.tls(problems);
        let health_listen = self.health_listen.as_deref().filter(|text| !text.trim().is_empty());
        let health_listen = match health_listen.map(|text| problems.parse("--health-listen", text)) {
            Some(parsed) => Some(parsed?),
            None => None,
        };
        Some(Endpoint { tls: tls.ok()?, health_listen })
    }

    fn tls(&self, problems: &mut Problems) -> Result<Option<Tls>, Reported> {
        let (certificate, key) = (self.tls_cert_file.clone(), self.tls_key_file.clone());
        let clients = self.clients(certificate.is_some(), problems);
        let (certificate, key) = match (certificate, key) {
            (None, None) => return clients.map(|_| None),
            (Some(certificate), Some(key)) => (certificate, key),
            _ => {
                problems.add("--tls-cert-file and --tls-key-file belong together: set both or neither");
                return Err(Reported);
            }
        };
        let (min_version, reload_interval) = (self.tls_min_version, RELOAD_INTERVAL);
        let settings = Settings { certificate, key, min_version, clients: clients?, reload_interval };
        let loaded = Tls::load(settings);
        loaded.map(Some).map_err(|found| {
            for problem in found {
                problems.add(problem);
            }
            Reported
        })
    }

    fn clients(&self, is_on: bool, problems: &mut Problems) -> Result<Option<Clients>, Reported> {
        let roles = problems.list("--tls-client-role", &self.tls_client_role);
        let roles = roles.and_then(|roles| {
            let ambiguous = |name| {
                problems.add(format!("--tls-client-role gives {name} two roles: give it one, as it would have none"));
            };
            ClientRoles::new(roles).map_err(ambiguous).ok()
        });
        let revocation_lists = self.tls_client_crl_file.clone();
        let Some(authorities) = self.tls_client_ca_file.clone() else {
            let depending = [
                ("--tls-client-auth", self.tls_client_auth.is_some()),
                ("--tls-client-crl-file", revocation_lists.is_some()),
                ("--tls-client-role", self.tls_client_role.iter().any(|text| !text.trim().is_empty())),
            ];
            let mut is_alone = true;
            for (name, _) in depending.into_iter().filter(|(_, is_set)| *is_set) {
                problems.add(format!("{name} has no effect without --tls-client-ca-file: set that, too"));
                is_alone = false;
            }
            return if is_alone { Ok(None) } else { Err(Reported) };
        };
        if !is_on {
            problems
                .add("--tls-client-ca-file has no effect without --tls-cert-file and --tls-key-file: set those, too");
            return Err(Reported);
        }
        let auth = self.tls_client_auth.unwrap_or_default();
        Ok(Some(Clients { authorities, revocation_lists, auth, roles: roles.ok_or(Reported)? }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::parse_flags;

    fn problems(flags: &[&str]) -> Vec<String> {
        let mut problems = Problems::default();
        let endpoint = parse_flags::<TlsArgs>(flags).unwrap().parse(&mut problems);
        let Err(problems) = problems.finish(endpoint) else { return Vec::new() };
        problems.to_string().lines().skip(1).map(|line| line.trim_start_matches("  - ").to_owned()).collect()
    }

    #[test]
    fn settings_that_belong_together_are_required_together() {
        assert_eq!(problems(&[]), Vec::<String>::new());
        assert_eq!(problems(&["--tls-client-role", ""]), Vec::<String>::new());
        for (flags, named) in [
            (&["--tls-cert-file", "cert.pem"][..], "set both or neither"),
            (&["--tls-key-file", "key.pem"], "set both or neither"),
            (&["--tls-client-ca-file", "ca.pem"], "without --tls-cert-file"),
            (&["--tls-client-auth", "optional"], "--tls-client-auth has no effect without --tls-client-ca-file"),
            (&["--tls-client-crl-file", "crl.pem"], "--tls-client-crl-file has no effect"),
            (&["--tls-client-role", "a=service"], "--tls-client-role has no effect"),
        ] {
            let found = problems(flags);
            assert!(found.len() == 1 && found[0].contains(named), "{flags:?}: {found:?}");
        }
    }

    #[test]
    fn every_problem_of_a_file_or_a_role_is_named() {
        let pair =
            ["--tls-cert-file", "/no/cert.pem", "--tls-key-file", "/no/key.pem", "--tls-client-ca-file", "/no/ca.pem"];
        let found = problems(&pair);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].starts_with("--tls-cert-file: the file /no/cert.pem cannot be read"), "{found:?}");
        assert!(found[1].starts_with("--tls-client-ca-file: the file /no/ca.pem cannot be read"), "{found:?}");
        let found = problems(&[&pair[..], &["--tls-client-role", "a=service,a=operator"]].concat());
        assert!(found[0].contains("gives a two roles"), "{found:?}");
        let found = problems(&[&pair[..], &["--tls-client-role", "a=user"]].concat());
        assert!(found[0].contains("the role must be directory, service or operator"), "{found:?}");
    }
}
