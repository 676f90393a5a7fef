//! Stories about `Chat`: frames and their responses, order, bounds, and the end of a session.

mod cursors;
mod ending;
mod frames;
mod order;
