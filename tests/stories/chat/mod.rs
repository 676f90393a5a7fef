//! Stories about `Chat`: a session's frames and their answers, their order and their bounds, and how a session ends.

mod ending;
mod frames;
mod order;
