//! Holds what clients sent, what was acknowledged to them and what they were told against what is stored at the end.
//!
//! A story that sends under stress keeps account in a [`Recorder`]: each send before it is sent and once it is answered, each
//! entry as it is told. When all is over, [`check`] reads that together with the logs and names every broken promise as a
//! [`Violation`]. It knows nothing of how the service works, takes time in proportion to what was recorded, and is itself
//! held against histories that are good, and against the same ones with one thing broken.

mod check;
mod history;

pub use self::{
    check::{Kind, Violation, check},
    history::{History, Reading, Recorder, Sending},
};
