//! The embedded migrations of user-service.

use service_kit::database::Schema;

mod embedded {
    refinery::embed_migrations!("../migrations/user");
}

/// Returns the schema `parlance_user` and all migrations that this binary knows.
pub(crate) fn schema() -> Schema {
    Schema { name: "parlance_user", migrations: embedded::migrations::runner().get_migrations().clone() }
}

#[cfg(test)]
mod tests {
    use super::schema;

    #[test]
    fn every_file_of_the_folder_is_embedded() {
        // refinery leaves out a file whose name it cannot parse, and only logs that.
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../migrations/user");
        let files = std::fs::read_dir(folder).unwrap().count();
        let mut versions: Vec<_> = schema().migrations.iter().map(refinery::Migration::version).collect();
        versions.sort_unstable();
        assert_eq!(versions, (1..=files as i32).collect::<Vec<_>>());
    }
}
