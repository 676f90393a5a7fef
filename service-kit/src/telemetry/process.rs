//! Metrics of the process, by the names that every Prometheus client uses. Linux only.

use super::metrics::{Kind, Metric};

/// The metrics.
pub(super) const METRICS: &[Metric] = &[
    Metric {
        name: "process_cpu_seconds_total",
        kind: Kind::Counter,
        help: "Time spent on a processor, in the process and in the kernel for it.",
    },
    Metric { name: "process_resident_memory_bytes", kind: Kind::Gauge, help: "Memory that is in use." },
    Metric { name: "process_virtual_memory_bytes", kind: Kind::Gauge, help: "Memory that is spoken for." },
    Metric { name: "process_open_fds", kind: Kind::Gauge, help: "Open file descriptors; each connection is one." },
    Metric { name: "process_max_fds", kind: Kind::Gauge, help: "The most open file descriptors." },
    Metric { name: "process_threads", kind: Kind::Gauge, help: "Threads." },
    Metric {
        name: "process_start_time_seconds",
        kind: Kind::Gauge,
        help: "When the process began, in seconds since 1970.",
    },
];

/// Reads the metrics. Values that cannot be read are left out.
#[cfg(target_os = "linux")]
pub(super) fn read() {
    use metrics::{counter, gauge};
    use procfs::{
        WithCurrentSystemInfo, boot_time_secs,
        process::{LimitValue, Process},
    };

    let Ok((process, stat)) = Process::myself().and_then(|process| process.stat().map(|stat| (process, stat))) else {
        return;
    };
    let per_second = procfs::ticks_per_second();
    counter!("process_cpu_seconds_total").absolute((stat.utime + stat.stime) / per_second);
    gauge!("process_resident_memory_bytes").set(stat.rss_bytes().get() as f64);
    gauge!("process_virtual_memory_bytes").set(stat.vsize as f64);
    gauge!("process_threads").set(stat.num_threads as f64);
    if let Ok(open) = process.fd_count() {
        gauge!("process_open_fds").set(open as f64);
    }
    if let Ok(limits) = process.limits()
        && let LimitValue::Value(most) = limits.max_open_files.soft_limit
    {
        gauge!("process_max_fds").set(most as f64);
    }
    if let Ok(booted) = boot_time_secs() {
        gauge!("process_start_time_seconds").set(booted as f64 + stat.starttime as f64 / per_second as f64);
    }
}

/// Reads nothing.
#[cfg(not(target_os = "linux"))]
pub(super) fn read() {}
