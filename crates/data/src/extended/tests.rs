//! What the goldens in `tests/commands/numbers.txt`, which are Redis' own, do not reach: agreement with the machine's
//! doubles where both are exact.

use proptest::prelude::*;

use super::*;

fn sum(a: &str, b: &str) -> Option<String> {
    Some(Extended::parse(a.as_bytes())?.add(Extended::parse(b.as_bytes())?)?.to_text())
}

#[test]
fn ties_go_to_even() {
    // 2^64 + 1 lies between two numbers of 64 bits, and so does 2^64 + 3.
    assert_eq!(sum("18446744073709551616", "1").unwrap(), "18446744073709551616");
    assert_eq!(sum("18446744073709551616", "3").unwrap(), "18446744073709551620");
    assert_eq!(sum("-18446744073709551616", "-3").unwrap(), "-18446744073709551620");
    // Beyond the tie by a bit far below.
    assert_eq!(sum("18446744073709551617.0000000000000000000000001", "0").unwrap(), "18446744073709551618");
}

#[test]
fn a_difference_may_cancel() {
    assert_eq!(sum("1e4000", "-1e4000").unwrap(), "0");
    assert_eq!(sum("18446744073709551615", "-18446744073709551614").unwrap(), "1");
    assert_eq!(sum("18446744073709551616", "-0.25").unwrap(), "18446744073709551616");
    assert_eq!(sum("9223372036854775808", "-0.5").unwrap(), "9223372036854775807.5");
}

proptest! {
    /// A double is exact in 80 bits, and so is the sum of two whole numbers below 2^53.
    #[test]
    fn whole_numbers_add_up(a in -(1i64 << 53)..1 << 53, b in -(1i64 << 53)..1 << 53) {
        prop_assert_eq!(sum(&a.to_string(), &b.to_string()).unwrap(), (a + b).to_string());
    }

    /// Sixteenths are exact; C prints them with their decimals.
    #[test]
    fn sixteenths_add_up(a in -(1i64 << 40)..1 << 40, b in -(1i64 << 40)..1 << 40) {
        let text = |number: i64| format!("{}", number as f64 / 16.0);
        let expected = if a + b == 0 { "0".to_owned() } else { text(a + b) };
        prop_assert_eq!(sum(&text(a), &text(b)).unwrap(), expected);
    }

    #[test]
    fn any_text_is_read_or_refused(text in prop::collection::vec(prop::sample::select(&b"0123456789.eEpPxXinfa+-"[..]), 0..30)) {
        if let Some(number) = Extended::parse(&text).filter(|number| !number.infinite) {
            let written = number.to_text();
            let again = Extended::parse(written.as_bytes()).expect("what is written can be read");
            prop_assert_eq!(again.to_text(), written);
        }
    }
}
