//! The private cluster against real PostgreSQL: lasting data, one owner at a time, and the leftovers of killed runs.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test says what went wrong by failing")]

mod commands;
mod killed;
mod lasting;
mod roles;
mod support;
mod users;
