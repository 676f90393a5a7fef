//! The log from outside against a model: random operations over a small world, each response predicted, and at the end
//! logs, lists, inboxes and unread counts equal to the model's.

mod operation;
mod play;
mod reference;

use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};

use self::operation::Operation;

/// Few and long: interesting states come from long histories.
const CASES: u32 = 6;
const OPERATIONS: usize = 250;

#[test]
fn random_operations_match_the_model() {
    let config = Config { cases: CASES, max_shrink_iters: 60, failure_persistence: None, ..Config::default() };
    let operations = prop::collection::vec(Operation::any(), OPERATIONS);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut runner = TestRunner::new(config);
    let outcome =
        runner.run(&operations, |operations| runtime.block_on(play::play(&operations)).map_err(TestCaseError::fail));
    outcome.unwrap();
}
