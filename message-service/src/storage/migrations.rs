//! The schema of message-service: its migrations, embedded.

use service_kit::database::Schema;

mod embedded {
    refinery::embed_migrations!("../migrations/message");
}

/// The schema `parlance_message` and all migrations that this binary knows.
pub(crate) fn schema() -> Schema {
    Schema { name: "parlance_message", migrations: embedded::migrations::runner().get_migrations().clone() }
}

#[cfg(test)]
mod tests {
    use super::schema;

    #[test]
    fn every_file_of_the_folder_is_embedded() {
        // A file whose name refinery does not like would be left out with just a line in the log.
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../migrations/message");
        let files = std::fs::read_dir(folder).unwrap().count();
        let mut versions: Vec<_> = schema().migrations.iter().map(refinery::Migration::version).collect();
        versions.sort_unstable();
        assert_eq!(versions, (1..=files as i32).collect::<Vec<_>>());
    }
}
