//! Reads the fields of a request and reports all violations at once.
//!
//! ```
//! # use service_kit::{bounds, fields::Fields, failure::Failure};
//! # fn decode(user_id: &str, display_name: &str, page_size: i32) -> Result<(String, String, i64), Failure> {
//! # let id = |text: &str| bounds::own_id(text).map(|()| text.to_owned());
//! # let title = |text: &str| bounds::title(text).map(|()| text.to_owned());
//! let mut fields = Fields::default();
//! let user_id = fields.parse("user_id", user_id, id);
//! let display_name = fields.parse("display_name", display_name, title);
//! let page_size = fields.page_size(page_size);
//! let (user_id, display_name, page_size) = fields.finish((user_id, display_name, page_size))?;
//! # Ok((user_id, display_name, page_size))
//! # }
//! # assert!(decode("ann", "Ann", 0).is_ok() && decode("", "Ann", -1).is_err());
//! ```
//!
//! Only [`Fields::finish`] opens a [`Field`], so a decoder that forgets to report the violations does not compile.

use std::fmt::Display;

use prost_types::FieldMask;

use crate::{
    bounds,
    failure::{Failure, MAX_VIOLATIONS, Violation},
    parts::{Part, Parts},
};

/// A field that was read: its value, or nothing if a violation was recorded instead.
#[derive(Debug)]
#[must_use = "pass it to `Fields::finish`"]
pub struct Field<T>(Option<T>);

impl<T> Field<T> {
    /// Converts the value.
    pub fn map<U>(self, convert: impl FnOnce(T) -> U) -> Field<U> {
        Field(self.0.map(convert))
    }

    /// Combines it with another field: both values, or neither.
    pub fn and<U>(self, other: Field<U>) -> Field<(T, U)> {
        Field(self.0.zip(other.0))
    }
}

impl<T> Part for Field<T> {
    type Value = T;

    fn into_value(self) -> Option<T> {
        self.0
    }
}

/// The violations of one request. See the [module](self) for how to use it.
#[derive(Debug, Default)]
#[must_use = "call `finish`"]
pub struct Fields {
    violations: Vec<Violation>,
    /// The number of violations beyond those that are sent.
    unlisted: usize,
}

impl Fields {
    /// Records a violation. Those that would not be sent are only counted: a small request can have very many.
    pub fn violation(&mut self, field: impl Into<String>, description: impl Into<String>) {
        if self.violations.len() >= MAX_VIOLATIONS {
            self.unlisted += 1;
            return;
        }
        self.violations.push(Violation { field: field.into(), description: description.into() });
    }

    /// Takes a value that has been parsed, or records why it could not be.
    pub fn check<T>(&mut self, field: &str, parsed: Result<T, impl Display>) -> Field<T> {
        Field(parsed.map_err(|problem| self.violation(field, problem.to_string())).ok())
    }

    /// Parses a required text field.
    pub fn parse<T, E: Display>(
        &mut self,
        field: &str,
        text: &str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Field<T> {
        self.check(field, parse(text))
    }

    /// Parses a text field in which an empty text means that it is absent.
    pub fn optional<T, E: Display>(
        &mut self,
        field: &str,
        text: &str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Field<Option<T>> {
        if text.is_empty() { Field(Some(None)) } else { self.parse(field, text, parse).map(Some) }
    }

    /// Records the result of a check that runs only if `is_named`: a field that the update mask does not name is not read.
    pub fn check_if<T, E: Display>(
        &mut self,
        is_named: bool,
        field: &str,
        check: impl FnOnce() -> Result<T, E>,
    ) -> Field<Option<T>> {
        if is_named { self.check(field, check()).map(Some) } else { Field(Some(None)) }
    }

    /// Parses every text of a repeated field. A violation names the element, such as `user_ids[3]`.
    pub fn parse_all<'t, T, E: Display>(
        &mut self,
        field: &str,
        texts: impl IntoIterator<Item = (usize, &'t String)>,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Field<Vec<T>> {
        let read = |(at, text): (usize, &String)| self.parse(&format!("{field}[{at}]"), text, &parse).0;
        // Reads all of them before it stops at a missing one, so that all violations are recorded.
        let values: Vec<Option<T>> = texts.into_iter().map(read).collect();
        Field(values.into_iter().collect())
    }

    /// Reads a required enum. `expected` describes the values allowed, such as `must be GROUP or CHANNEL`.
    pub fn choice<T>(
        &mut self,
        field: &str,
        number: i32,
        from_number: impl FnOnce(i32) -> Option<T>,
        expected: &str,
    ) -> Field<T> {
        self.check(field, from_number(number).ok_or(expected))
    }

    /// Reads an enum in which 0 (`UNSPECIFIED`) means that it is absent.
    pub fn optional_choice<T>(
        &mut self,
        field: &str,
        number: i32,
        from_number: impl FnOnce(i32) -> Option<T>,
        expected: &str,
    ) -> Field<Option<T>> {
        if number == 0 { Field(Some(None)) } else { self.choice(field, number, from_number, expected).map(Some) }
    }

    /// Reads `page_size`: 0 is the default, and a size above the maximum is the maximum.
    pub fn page_size(&mut self, requested: i32) -> Field<i64> {
        self.check("page_size", bounds::page_size(requested))
    }

    /// Reads `update_mask`: which of the `paths` it names. `*` names all; an absent or empty mask is `None`. A path that is
    /// not among them is a violation, and the others count as named, so that their fields are read, too.
    pub fn update_mask<const N: usize>(&mut self, mask: Option<&FieldMask>, paths: [&str; N]) -> Option<[bool; N]> {
        let named = mask.map(|mask| &mask.paths).filter(|named| !named.is_empty())?;
        let mut is_named = [false; N];
        for (at, name) in named.iter().enumerate() {
            match paths.iter().position(|path| path == name) {
                Some(path) => is_named[path] = true,
                None if name == "*" => is_named = [true; N],
                None => {
                    let field = format!("update_mask.paths[{at}]");
                    self.violation(field, format!("must be {} or *", paths.join(", ")));
                }
            }
        }
        Some(is_named)
    }

    /// Returns the values of the fields passed, which may be one field or a tuple.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` with every violation recorded, if there is one.
    pub fn finish<P: Parts>(self, fields: P) -> Result<P::Values, Failure> {
        if !self.violations.is_empty() {
            return Err(Failure::invalid(self.violations, self.unlisted));
        }
        fields.into_values().ok_or_else(|| Failure::internal("a field is missing without a violation"))
    }
}

#[cfg(test)]
mod tests {
    use tonic::Status;
    use tonic_types::StatusExt;

    use super::*;
    use crate::bounds::OutOfBounds;

    fn id(text: &str) -> Result<String, OutOfBounds> {
        bounds::own_id(text).map(|()| text.to_owned())
    }

    fn violated(failure: Failure) -> Vec<String> {
        let details = Status::from(failure).get_error_details();
        let violations = &details.bad_request().unwrap().field_violations;
        violations.iter().map(|violation| violation.field.clone()).collect()
    }

    #[test]
    fn valid_fields_are_returned_in_order() {
        let mut fields = Fields::default();
        let user_id = fields.parse("user_id", "ann", id);
        let request_id = fields.optional("request_id", "", id);
        let etag = fields.optional("etag", "7", id);
        let size = fields.page_size(0);
        let values = fields.finish((user_id, request_id, etag, size)).unwrap();
        assert_eq!(values, ("ann".to_owned(), None, Some("7".to_owned()), 50));
    }

    #[test]
    fn violations_that_are_not_sent_are_only_counted() {
        let mut fields = Fields::default();
        let mask = FieldMask { paths: vec![String::new(); 500_000] };
        assert_eq!(fields.update_mask(Some(&mask), ["title"]), Some([false]));
        assert!(fields.violations.capacity() <= 2 * MAX_VIOLATIONS);
        let title = fields.parse("title", "", id);
        let status = Status::from(fields.finish(title).unwrap_err());
        assert_eq!(status.get_details_bad_request().unwrap().field_violations.len(), MAX_VIOLATIONS);
        assert!(status.message().ends_with("(and 500000 more)"), "{}", status.message());
    }

    #[test]
    fn all_violations_are_reported_at_once() {
        let mut fields = Fields::default();
        let user_id = fields.parse("user_id", "", id);
        let request_id = fields.optional("request_id", "~", id);
        let size = fields.page_size(-1);
        let kind = fields.choice("kind", 9, |_| None::<i32>, "must be GROUP");
        let failure = fields.finish((user_id, request_id, size, kind)).unwrap_err();
        assert_eq!(violated(failure), ["user_id", "request_id", "page_size", "kind"]);
    }

    #[test]
    fn elements_are_named_by_their_index() {
        let texts = ["a", "~", "b", ""].map(str::to_owned);
        let mut fields = Fields::default();
        let ids = fields.parse_all("user_ids", texts.iter().enumerate(), id);
        assert_eq!(violated(fields.finish(ids).unwrap_err()), ["user_ids[1]", "user_ids[3]"]);
    }

    #[test]
    fn a_violation_beside_the_fields_fails_the_request() {
        let mut fields = Fields::default();
        let user_id = fields.parse("user_id", "ann", id);
        fields.violation("text", "text or attributes is required");
        assert_eq!(violated(fields.finish(user_id).unwrap_err()), ["text"]);
    }

    #[test]
    fn an_absent_enum_is_none() {
        let role = |number: i32| (1..=3).contains(&number).then_some(number);
        let read = |number| {
            let mut fields = Fields::default();
            let role = fields.optional_choice("role", number, role, "must be 1, 2 or 3");
            fields.finish(role).ok()
        };
        assert_eq!((read(0), read(2), read(4)), (Some(None), Some(Some(2)), None));
    }

    #[test]
    fn a_mask_names_fields_and_nothing_else() {
        let read = |paths: &[&str]| {
            let mask = FieldMask { paths: paths.iter().map(|path| (*path).to_owned()).collect() };
            let mut fields = Fields::default();
            let named = fields.update_mask(Some(&mask), ["text", "attributes"]);
            fields.finish(Some(named))
        };
        assert_eq!(read(&[]).unwrap(), None);
        assert_eq!(read(&["attributes"]).unwrap(), Some([false, true]));
        assert_eq!(read(&["text", "attributes"]).unwrap(), Some([true, true]));
        assert_eq!(read(&["*"]).unwrap(), Some([true, true]));
        assert_eq!(violated(read(&["text", "sender_id"]).unwrap_err()), ["update_mask.paths[1]"]);
        assert!(read(&["text", "*", ""]).is_err());
    }
}
