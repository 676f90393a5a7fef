//! Authentication and authorisation: who may call, with what token, and what happens to streams when it ends.

mod command;
mod matrix;
mod streams;
mod support;
mod table;
mod tokens;
