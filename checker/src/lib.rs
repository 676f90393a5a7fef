//! Checks the history of clients (sends, acknowledgements and received events) against the logs stored at the end.
//!
//! A story that sends under stress uses a [`Recorder`]: it records each send before sending and after the answer, and each
//! entry on receipt. At the end, [`check`] compares the history with the logs and reports every broken promise as a
//! [`Violation`]. It knows nothing about the implementation of the service and takes time linear in the history. Its own
//! tests check correct histories, and the same histories with one fault.

mod check;
mod history;

pub use self::{
    check::{Kind, Violation, check},
    history::{History, Reading, Recorder, Sending},
};
