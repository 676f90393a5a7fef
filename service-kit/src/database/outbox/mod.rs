//! The outbox: a table to which every transaction adds the changes that other processes must read. They read it from a
//! position; old rows are trimmed.
//!
//! The table has the columns `outbox_id bigint`, unique, and `xact_id xid8 DEFAULT pg_current_xact_id()` with an index on
//! it. Transactions become visible in the order of their commits, which neither column follows, so a [`Reader`] asks for
//! the rows that the snapshot of its last read could not see. That is exact, however late a transaction commits:
//!
//! ```text
//! window = (snapshot of the last read, snapshot of this read]
//! read the rows of the window in the order (xact_id, outbox_id), as many as are allowed at once
//! if rows are left: remember the window and the last row, and continue there next time
//! else:             remember the snapshot of this read
//! ```
//!
//! A [`Consumer`] is a reader with a name whose position is stored, for work that must survive a restart.
//!
//! A [`Trimmer`] deletes rows once every reader has had `retention` to read them. A reader whose [`Position`] is too old, or
//! from another history of the database, reports a gap in place of rows.

mod consumer;
mod position;
mod reader;
mod trim;

pub use consumer::Consumer;
pub use position::{InvalidPosition, Position};
pub use reader::{Read, Reader, Source};
pub use trim::{Horizon, Trimmer};
