//! When keys are fetched, and for how long they are good.

use super::*;

#[tokio::test]
async fn without_keys_nothing_is_ready_and_calls_are_unavailable() {
    let signer = Signer::es256();
    let provider = Provider::new(&[signer.jwk("k")]).await;
    provider.answers_with("500 Internal Server Error", "", "");
    let lifecycle = Lifecycle::new();
    let verifier = Verifier::start_with(&provider.settings(), timing(), &lifecycle).unwrap();
    eventually(async || provider.hits() >= 2).await;
    assert!(!verifier.is_ready());
    assert_eq!(verify(&verifier, &signer, "k").await, Err(Refusal::KeysUnavailable));
    provider.publish(&[signer.jwk("k")]);
    eventually(async || verifier.is_ready()).await;
    eventually(async || verify(&verifier, &signer, "k").await.is_ok()).await;
    end(lifecycle).await;
}

#[tokio::test]
async fn the_last_keys_hold_for_a_day() {
    let signer = Signer::es256();
    let verifier = Provider::new(&[signer.jwk("k")]).await.verifier().await;
    let later = |hours| SystemTime::now() + Duration::from_hours(hours);
    let token = token_at(&signer, "k", later(23));
    assert!(verifier.verify(&token, later(23)).await.is_ok());
    let young = token_at(&signer, "k", later(25));
    assert_eq!(verifier.verify(&young, later(25)).await.unwrap_err(), Refusal::KeysUnavailable);
    // A remembered one is no exception.
    let remembered = token_at(&signer, "k", later(24) - Duration::from_mins(2));
    assert!(verifier.verify(&remembered, later(24) - Duration::from_mins(2)).await.is_ok());
    let after = later(24) + Duration::from_mins(1);
    assert_eq!(verifier.verify(&remembered, after).await.unwrap_err(), Refusal::KeysUnavailable);
}

#[tokio::test]
async fn random_kids_cost_one_fetch_and_no_wait() {
    let signer = Signer::es256();
    let provider = Provider::new(&[signer.jwk("k")]).await;
    let lifecycle = Lifecycle::new();
    let verifier = Verifier::start_with(&provider.settings(), timing(), &lifecycle).unwrap();
    eventually(async || verify(&verifier, &signer, "k").await.is_ok()).await;
    assert_eq!(provider.hits(), 1);
    let forger = Signer::ed25519();
    for number in 0..1_000 {
        assert!(is_invalid(&verify(&verifier, &forger, &format!("random-{number}")).await));
    }
    assert_eq!(provider.hits(), 2);
    // While the pause lasts nothing is asked, so nothing waits for an answer that does not come.
    provider.answers(Answer::Silence);
    let refused = timeout(Duration::from_secs(20), verify(&verifier, &forger, "another")).await;
    assert!(is_invalid(&refused.unwrap()));
    assert_eq!(verify(&verifier, &signer, "k").await, Ok(()));
    assert_eq!(provider.hits(), 2);
    end(lifecycle).await;
}

#[tokio::test]
async fn a_provider_that_is_silent_is_asked_once_and_waited_for_shortly() {
    let signer = Signer::es256();
    let provider = Provider::new(&[signer.jwk("k")]).await;
    let lifecycle = Lifecycle::new();
    let slow = Timing { fetch: Duration::from_hours(1), wait: Duration::from_millis(50), ..timing() };
    let verifier = Verifier::start_with(&provider.settings(), slow, &lifecycle).unwrap();
    eventually(async || verify(&verifier, &signer, "k").await.is_ok()).await;
    provider.answers(Answer::Silence);
    for number in 0..3 {
        let refused = timeout(Duration::from_secs(20), verify(&verifier, &signer, &format!("new-{number}"))).await;
        assert!(is_invalid(&refused.expect("it waits for the wait, not for the fetch")));
        assert_eq!(verify(&verifier, &signer, "k").await, Ok(()), "known keys are not touched");
    }
    eventually(async || provider.hits() == 2).await;
    end(lifecycle).await;
}

#[tokio::test]
async fn the_pause_counts_attempts_not_successes() {
    let signer = Signer::es256();
    let provider = Provider::new(&[signer.jwk("k")]).await;
    let lifecycle = Lifecycle::new();
    let patient = Timing { retry: (Duration::from_hours(1), Duration::from_hours(1)), ..timing() };
    let verifier = Verifier::start_with(&provider.settings(), patient, &lifecycle).unwrap();
    eventually(async || verify(&verifier, &signer, "k").await.is_ok()).await;
    provider.answers_with("500 Internal Server Error", "", "");
    for number in 0..10 {
        assert!(is_invalid(&verify(&verifier, &signer, &format!("new-{number}")).await));
    }
    assert_eq!(provider.hits(), 2);
    end(lifecycle).await;
}

#[tokio::test]
async fn an_unknown_kid_is_asked_for_again_after_the_pause() {
    let [old, new] = [Signer::es256(), Signer::es256()];
    let provider = Provider::new(&[old.jwk("old")]).await;
    let lifecycle = Lifecycle::new();
    let short = Timing { unknown: Duration::from_millis(50), ..timing() };
    let verifier = Verifier::start_with(&provider.settings(), short, &lifecycle).unwrap();
    eventually(async || verify(&verifier, &old, "old").await.is_ok()).await;
    assert!(is_invalid(&verify(&verifier, &new, "new").await));
    provider.publish(&[old.jwk("old"), new.jwk("new")]);
    eventually(async || verify(&verifier, &new, "new").await.is_ok()).await;
    end(lifecycle).await;
}

#[tokio::test]
async fn a_new_key_is_fetched_once_for_all_calls_that_need_it() {
    let [old, new] = [Signer::es256(), Signer::es256()];
    let provider = Provider::new(&[old.jwk("old")]).await;
    let lifecycle = Lifecycle::new();
    let verifier = Verifier::start_with(&provider.settings(), timing(), &lifecycle).unwrap();
    eventually(async || verify(&verifier, &old, "old").await.is_ok()).await;
    provider.publish(&[old.jwk("old"), new.jwk("new")]);
    let calls = (0..50).map(|_| verify(&verifier, &new, "new"));
    for answer in futures_util::future::join_all(calls).await {
        assert_eq!(answer, Ok(()));
    }
    assert_eq!(provider.hits(), 2);
    assert_eq!(verify(&verifier, &old, "old").await, Ok(()), "both are good while keys are rotated");
    end(lifecycle).await;
}

#[tokio::test]
async fn a_key_that_is_published_no_more_is_withdrawn() {
    let [old, new] = [Signer::es256(), Signer::es256()];
    let provider = Provider::new(&[old.jwk("old"), new.jwk("new")]).await;
    let lifecycle = Lifecycle::new();
    let often = Timing { every: Duration::from_millis(20), ..timing() };
    let verifier = Verifier::start_with(&provider.settings(), often, &lifecycle).unwrap();
    eventually(async || verify(&verifier, &old, "old").await.is_ok()).await;
    let now = SystemTime::now();
    let token = token_at(&old, "old", now);
    let key = verifier.verify(&token, now).await.unwrap().key.clone();
    let mut changed = verifier.changed();
    let seen = provider.hits();
    eventually(async || provider.hits() >= seen + 3).await;
    assert!(!changed.has_changed().unwrap(), "the same keys again are no change");
    assert!(verifier.holds(&key));
    provider.publish(&[new.jwk("new")]);
    timeout(Duration::from_secs(30), changed.changed()).await.unwrap().unwrap();
    assert!(!verifier.holds(&key));
    assert!(verifier.verify(&token, now).await.is_err(), "it is remembered, and its key is gone");
    assert_eq!(verify(&verifier, &new, "new").await, Ok(()));
    end(lifecycle).await;
}
