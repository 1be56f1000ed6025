//! What each policy costs a call. Beside other libraries: `cargo xtask peers recovery`.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use keypact_recovery::circuit_breaker::{Breakers, CircuitBreaker, Config, Outcome, WindowKind};
use keypact_recovery::idempotency::{self, Fingerprint, Ledger, Ticket, Token};
use keypact_recovery::retry::{Budget, BudgetConfig, Failure, Policy};

fn retry(c: &mut Criterion) {
    let policy = Policy::default();
    c.bench_function("retry/begin", |b| b.iter(|| black_box(&policy).begin(true, 0)));
    c.bench_function("retry/decide", |b| {
        let mut budget = Budget::new(BudgetConfig { capacity: 1_000_000, ..BudgetConfig::default() }, 0);
        b.iter(|| {
            budget.first_try();
            let mut retry = policy.begin(true, 0);
            black_box(retry.failed(Failure::NotApplied, Some(&mut budget), 5, black_box(77)))
        });
    });
}

fn breaker(c: &mut Criterion) {
    let windows = [
        ("count", WindowKind::Count { calls: 100 }),
        ("time", WindowKind::Time { buckets: 10, bucket_ns: 1_000_000 }),
    ];
    for (name, window) in windows {
        c.bench_function(&format!("circuit-breaker/{name}"), |b| {
            let mut breaker = CircuitBreaker::new(Config { window, ..Config::default() }).expect("it holds");
            let mut now_ns = 0;
            b.iter(|| {
                now_ns += 1_000;
                let permit = breaker.admit(now_ns).expect("closed");
                breaker.record(permit, black_box(Outcome::Success), now_ns);
            });
        });
    }
    c.bench_function("circuit-breaker/one of 1,000 keys", |b| {
        let mut breakers: Breakers<u32> = Breakers::new(Config::default(), 1_000).expect("it holds");
        let mut key = 0;
        b.iter(|| {
            key = (key + 7) % 1_000;
            let permit = breakers.admit(&key, 0).expect("closed");
            breakers.record(permit, black_box(Outcome::Success), 0);
        });
    });
}

fn idempotency(c: &mut Criterion) {
    let config = idempotency::Config { answers_max: 10_000, ..idempotency::Config::default() };
    c.bench_function("idempotency/new, 10,000 kept", |b| {
        let mut ledger: Ledger<()> = Ledger::new(config);
        let mut now_ms = 1_000_000_000;
        b.iter(|| {
            now_ms += 1;
            let ticket = Ticket::Free(Token::new(now_ms, 1));
            let _ = black_box(ledger.begin(ticket, Fingerprint(1), (), now_ms));
            ledger.end(ticket, None)
        });
    });
    c.bench_function("idempotency/repeated", |b| {
        let mut ledger: Ledger<()> = Ledger::new(config);
        let ticket = Ticket::Free(Token::new(1_000, 1));
        let _ = ledger.begin(ticket, Fingerprint(1), (), 1_000);
        ledger.end(ticket, Some(vec![1; 16]));
        b.iter(|| black_box(ledger.begin(ticket, Fingerprint(1), (), 1_000)));
    });
}

criterion_group!(benches, retry, breaker, idempotency);
criterion_main!(benches);
