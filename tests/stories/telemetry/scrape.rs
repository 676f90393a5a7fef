//! The text that Prometheus scrapes, fetched and parsed.

use std::{collections::BTreeSet, net::SocketAddr};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// One scrape.
#[derive(Debug)]
pub(super) struct Scrape {
    pub(super) text: String,
}

impl Scrape {
    /// Fetches `/metrics`.
    pub(super) async fn of(address: SocketAddr) -> Self {
        let answer = get(address, "GET /metrics").await;
        let (head, text) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200 ") && head.contains("text/plain; version=0.0.4"), "{head}");
        Self { text: text.to_owned() }
    }

    /// Returns the sum of all series of this name whose labels contain all of these, rounded down.
    pub(super) fn sum(&self, name: &str, labels: &[&str]) -> u64 {
        let of_name =
            self.text.lines().filter_map(|line| line.strip_prefix(name)).filter(|rest| rest.starts_with(['{', ' ']));
        let of_labels = of_name.filter(|rest| labels.iter().all(|label| rest.contains(label)));
        of_labels.map(|rest| rest.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum::<f64>() as u64
    }

    /// Returns the names of all metrics that have a series; those of histograms without their suffixes.
    pub(super) fn names(&self) -> BTreeSet<String> {
        let series = self.text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
        series.map(|line| family(line.split(['{', ' ']).next().unwrap()).to_owned()).collect()
    }
}

/// Returns the metric that a name in an expression refers to.
pub(super) fn family(name: &str) -> &str {
    ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix)).unwrap_or(name)
}

/// Makes one HTTP request over a new connection; returns the whole response.
pub(super) async fn get(address: SocketAddr, request: &str) -> String {
    get_from(&address.to_string(), address, request).await
}

/// Makes one HTTP request to a host of this name, which has resolved to the address.
pub(super) async fn get_from(host: &str, address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("{request} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}
