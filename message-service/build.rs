//! A new migration must be embedded, also when nothing else changed.

fn main() {
    println!("cargo:rerun-if-changed=../migrations/message");
}
