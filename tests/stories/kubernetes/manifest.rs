//! What deploy/kubernetes/base says about a service: read from there, so that manifests and stories cannot drift apart.

use std::{fs, path::Path, time::Duration};

use yaml_rust2::{Yaml, YamlLoader};

/// One probe of a container.
#[derive(Debug, Clone)]
pub struct Probe {
    /// The name that health is asked for.
    pub service: String,
    /// From one to the next.
    pub period: Duration,
    /// What one may take.
    pub timeout: Duration,
    /// How many in a row must fail before something is done.
    pub failures: u32,
}

impl Probe {
    /// For how long it has to fail, at most, before something is done.
    pub fn patience(&self) -> Duration {
        self.period.max(self.timeout) * self.failures
    }
}

/// A pod of one of the services.
#[derive(Debug, Clone)]
pub struct Manifest {
    /// The words of the init container after its binary, which is the service's.
    pub prepare: Vec<String>,
    /// The same of the container.
    pub run: Vec<String>,
    /// Names and values of the variables.
    pub settings: Vec<(String, String)>,
    /// Asked until it succeeds once; then the others begin.
    pub startup: Probe,
    /// Whether calls are sent here.
    pub readiness: Probe,
    /// Whether it is left alone.
    pub liveness: Probe,
    /// From SIGTERM to SIGKILL.
    pub grace: Duration,
}

impl Manifest {
    /// Reads what there is about a service.
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

    /// How long the kubelet takes to see that a service is up.
    pub fn comes_up_within(&self) -> Duration {
        self.startup.period + self.readiness.period
    }

    /// A setting as a duration.
    pub fn duration(&self, name: &str) -> Duration {
        let (_, value) = self.settings.iter().find(|(setting, _)| setting == name).expect("a setting");
        Duration::from_secs(value.strip_suffix('s').expect("seconds").parse().unwrap())
    }
}

/// What is said to the service's binary, which is what the container starts.
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
