//! What `parlance`, the all-in-one binary, is made of and tests borrow: a private PostgreSQL.
//!
//! [`cluster`] finds PostgreSQL's programs, makes a cluster in a folder, starts it on a loopback port with a password
//! of its own, and leaves nothing running. The commands themselves (`serve`, `postgres`, `with-postgres`) live in the
//! binary, under `commands/`.

pub mod cluster;
