//! Reads deploy/kubernetes/base, so that manifests and stories cannot drift apart.

use std::{fs, path::Path, time::Duration};

use yaml_rust2::{Yaml, YamlLoader};

/// One probe of a container.
#[derive(Debug, Clone)]
pub struct Probe {
    /// The service name in the health check.
    pub service: String,
    /// The time between two probes.
    pub period: Duration,
    /// The time limit of one probe.
    pub timeout: Duration,
    /// Failures in a row before the kubelet acts.
    pub failures: u32,
}

impl Probe {
    /// Returns the longest time of failure before the kubelet acts.
    pub fn patience(&self) -> Duration {
        self.period.max(self.timeout) * self.failures
    }
}

/// A pod of one of the services.
#[derive(Debug, Clone)]
pub struct Manifest {
    /// The arguments of the init container.
    pub prepare: Vec<String>,
    /// The arguments of the container.
    pub run: Vec<String>,
    /// Names and values of the environment variables.
    pub settings: Vec<(String, String)>,
    /// Runs until it succeeds once; then the others start.
    pub startup: Probe,
    /// Decides about routing calls here.
    pub readiness: Probe,
    /// Decides about restarting the container.
    pub liveness: Probe,
    /// From SIGTERM to SIGKILL.
    pub grace: Duration,
}

impl Manifest {
    /// Reads the manifest of a service.
    pub fn of(service: &str) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/kubernetes/base").join(service);
        let text = fs::read_to_string(folder.join("deployment.yaml")).unwrap();
        let documents = YamlLoader::load_from_str(&text).unwrap();
        let pod = &documents[0]["spec"]["template"]["spec"];
        let container = &pod["containers"][0];
        let settings = fs::read_to_string(folder.join("settings.env")).unwrap();
        let settings = settings.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once('='));
        Self {
            prepare: words(&pod["initContainers"][0], service),
            run: words(container, service),
            settings: settings.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
            startup: probe(&container["startupProbe"]),
            readiness: probe(&container["readinessProbe"]),
            liveness: probe(&container["livenessProbe"]),
            grace: seconds(&pod["terminationGracePeriodSeconds"]),
        }
    }

    /// Returns how long the kubelet takes to see that a service is up.
    pub fn comes_up_within(&self) -> Duration {
        self.startup.period + self.readiness.period
    }

    /// Returns a setting as a duration.
    pub fn duration(&self, name: &str) -> Duration {
        let (_, value) = self.settings.iter().find(|(setting, _)| setting == name).expect("a setting");
        Duration::from_secs(value.strip_suffix('s').expect("seconds").parse().unwrap())
    }
}

/// The arguments of the service's binary, which the container starts.
fn words(container: &Yaml, service: &str) -> Vec<String> {
    let command: Vec<_> = container["command"].as_vec().unwrap().iter().map(|word| word.as_str().unwrap()).collect();
    assert_eq!(Path::new(command[0]).file_name().unwrap(), service);
    command[1..].iter().map(|&word| word.to_owned()).collect()
}

fn probe(probe: &Yaml) -> Probe {
    Probe {
        service: probe["grpc"]["service"].as_str().unwrap().to_owned(),
        period: seconds(&probe["periodSeconds"]),
        timeout: seconds(&probe["timeoutSeconds"]),
        failures: probe["failureThreshold"].as_i64().unwrap() as u32,
    }
}

fn seconds(value: &Yaml) -> Duration {
    Duration::from_secs(value.as_i64().unwrap() as u64)
}
