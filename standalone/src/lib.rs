//! The library of `parlance`, the all-in-one binary, which tests use too: a private PostgreSQL.
//!
//! [`cluster`] finds PostgreSQL's programs, creates a cluster in a folder, starts it on a loopback port with a generated
//! password, and leaves nothing running. The commands themselves (`serve`, `postgres`, `with-postgres`) are in the binary,
//! under `commands/`.

pub mod cluster;
