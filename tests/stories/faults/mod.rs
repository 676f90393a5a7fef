//! The ugly stories: something that is needed goes away, hangs, or is killed, and no promise is broken. What is checked
//! everywhere: what was acknowledged exists exactly once, where it was acknowledged; sequences are dense; errors are true.

mod backends;
mod database_away;
mod killed;
pub mod load;
mod locked;
mod lost_answers;
mod many_processes;
mod overload;
mod planted;
mod replicas;
mod rolling_restart;
mod user_service_away;
mod watch_away;
