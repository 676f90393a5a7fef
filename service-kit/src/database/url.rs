//! Settings that are connection strings. They hold passwords, so no problem repeats one.

use sqlx::postgres::PgConnectOptions;

use crate::config::{Problems, Secret};

impl Problems {
    /// Parses a PostgreSQL connection string. Its text is a secret and is not part of the problem.
    pub fn database_url(&mut self, name: &str, text: Option<&Secret>) -> Option<PgConnectOptions> {
        let Some(url) = text else {
            self.add(format!("{name} is required, such as postgres://user:password@host:5432/database"));
            return None;
        };
        let scheme = url.expose().split("://").next().unwrap_or_default();
        if !["postgres", "postgresql"].contains(&scheme) {
            self.add(format!("{name} does not begin with postgres://"));
            return None;
        }
        url.expose()
            .parse()
            .map_err(|error| self.add(format!("{name} is not a PostgreSQL connection string: {error}")))
            .ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_does_not_repeat_the_url() {
        let mut problems = Problems::default();
        let url = problems.database_url("--database-url", Some(&Secret::new("postgres://topsecret@localhost:x/y")));
        assert!(!problems.finish(url).unwrap_err().to_string().contains("topsecret"));
    }
}
