//! Stories about faults: a dependency stops, hangs, or is killed, and no promise is broken. All of them check that each
//! acknowledged message exists exactly once, at its sequence; that sequences are dense; and that errors are true.

mod bad_network;
mod clock_jumps;
mod connections_exhausted;
mod connections_killed;
mod database_down;
mod disk;
mod failover;
mod failover_under_load;
mod fault;
mod flood;
mod full_disk;
pub mod load;
mod locked_rows;
mod lost_responses;
mod many_processes;
mod matrix;
mod nats;
mod older_copy;
mod overload;
mod planted;
mod power_loss;
mod process_killed;
mod read_only;
mod replicas;
mod rolling_restart;
mod run;
mod silent_connections;
mod standby_away;
mod strangers;
mod user_service_down;
mod watch_down;
