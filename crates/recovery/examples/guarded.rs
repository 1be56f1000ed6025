//! A client over UDP with retries and a breaker before a service that is away for a while.
//! `cargo run -p keypact-recovery --example guarded`

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use keypact_recovery::circuit_breaker::{CircuitBreaker, Config, Outcome, WindowKind};
use keypact_recovery::retry::{Budget, BudgetConfig, Failure, Policy};
use keypact_recovery::{MILLISECOND_NS, SECOND_NS};

/// Answers nothing between 0.5 s and 2 s of its life.
fn serve(socket: &UdpSocket) {
    let (begun, mut request) = (Instant::now(), [0; 16]);
    while let Ok((len, from)) = socket.recv_from(&mut request) {
        if request[..len] == *b"end" {
            return;
        }
        if !(500..2_000).contains(&begun.elapsed().as_millis()) {
            socket.send_to(&request[..len], from).expect("it is sent");
        }
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (service, client) = (UdpSocket::bind("127.0.0.1:0")?, UdpSocket::bind("127.0.0.1:0")?);
    client.connect(service.local_addr()?)?;
    client.set_read_timeout(Some(Duration::from_millis(20)))?;
    let serving = std::thread::spawn(move || serve(&service));

    let epoch = Instant::now();
    let now = || epoch.elapsed().as_nanos() as u64;
    let mut seed = u64::from(std::process::id());
    let mut random = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        seed
    };
    let policy = Policy { base_ns: 10 * MILLISECOND_NS, max_ns: 50 * MILLISECOND_NS, ..Policy::default() };
    let mut budget = Budget::new(BudgetConfig::default(), now());
    let window = WindowKind::Count { calls: 10 };
    let config = Config { window, minimum_calls: 4, cool_down_ns: SECOND_NS / 2, ..Config::default() };
    let mut breaker = CircuitBreaker::new(config)?;
    let mut reply = [0; 16];
    for number in 0..100 {
        budget.first_try();
        let mut retry = policy.begin(true, now);
        let ended = loop {
            let failure = match breaker.admit(now) {
                Err(rejected) => rejected.to_string(),
                Ok(permit) => {
                    client.send(format!("{number}").as_bytes())?;
                    let answered = client.recv(&mut reply);
                    let outcome = if answered.is_ok() { Outcome::Success } else { Outcome::Error };
                    breaker.record(permit, outcome, now);
                    match answered {
                        Ok(_) => break "answered".to_string(),
                        Err(error) => error.to_string(),
                    }
                }
            };
            match retry.failed(Failure::Uncertain, Some(&mut budget), now, random()) {
                Ok(wait_ns) => std::thread::sleep(Duration::from_nanos(wait_ns)),
                Err(why) => break format!("{failure}; {why}"),
            }
        };
        println!("{:>5} ms  {number:>3}  {}  {ended}", epoch.elapsed().as_millis(), breaker.state());
        std::thread::sleep(Duration::from_millis(20));
    }
    client.send(b"end")?;
    serving.join().map_err(|_| "the service fell over")?;
    println!("{:?}, {:?}", breaker.counts(), budget.counts());
    Ok(())
}
