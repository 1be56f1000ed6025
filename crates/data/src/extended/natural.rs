//! Whole numbers of any size: as much of their arithmetic as reading and writing decimal digits needs.

use core::cmp::Ordering;

/// Bits that a quotient is computed to, so that two below the mantissa's 64 are right.
const QUOTIENT_BITS: u32 = 66;
/// As many decimal digits as fit into a limb.
const DIGITS_PER_LIMB: usize = 9;
const LIMB_OF_DIGITS: u64 = 1_000_000_000;

/// Limbs of 32 bits, the lowest first, none at the top that is zero.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Natural {
    limbs: Vec<u32>,
}

impl From<u64> for Natural {
    fn from(number: u64) -> Natural {
        Natural { limbs: vec![number as u32, (number >> 32) as u32] }.trimmed()
    }
}

impl Natural {
    /// Of ASCII digits. O(digits squared).
    pub(super) fn from_decimal(digits: &[u8]) -> Natural {
        let mut number = Natural { limbs: Vec::new() };
        for chunk in digits.chunks(DIGITS_PER_LIMB) {
            let value = chunk.iter().fold(0, |value, digit| value * 10 + u32::from(digit - b'0'));
            number.scale(10u32.pow(chunk.len() as u32), value);
        }
        number
    }

    pub(super) fn power_of_ten(power: u32) -> Natural {
        let mut number = Natural { limbs: vec![1] };
        for _ in 0..power / DIGITS_PER_LIMB as u32 {
            number.scale(LIMB_OF_DIGITS as u32, 0);
        }
        number.scale(10u32.pow(power % DIGITS_PER_LIMB as u32), 0);
        number
    }

    /// Itself x factor + addend.
    fn scale(&mut self, factor: u32, addend: u32) {
        let mut carry = u64::from(addend);
        for limb in &mut self.limbs {
            carry += u64::from(*limb) * u64::from(factor);
            *limb = carry as u32;
            carry >>= 32;
        }
        if carry > 0 {
            self.limbs.push(carry as u32);
        }
    }

    /// The product. O(product of lengths).
    pub(super) fn times(&self, other: &Natural) -> Natural {
        let mut limbs = vec![0u32; self.limbs.len() + other.limbs.len()];
        for (shift, &factor) in other.limbs.iter().enumerate() {
            let mut carry = 0u64;
            for (index, &limb) in self.limbs.iter().enumerate() {
                carry += u64::from(limb) * u64::from(factor) + u64::from(limbs[shift + index]);
                limbs[shift + index] = carry as u32;
                carry >>= 32;
            }
            limbs[shift + self.limbs.len()] = carry as u32;
        }
        Natural { limbs }.trimmed()
    }

    fn bits(&self) -> u32 {
        let top = self.limbs.last().map_or(0, |limb| 32 - limb.leading_zeros());
        (self.limbs.len() as u32).saturating_sub(1) * 32 + top
    }

    pub(super) fn shifted_left(&self, by: u32) -> Natural {
        let mut limbs = vec![0; by as usize / 32];
        let mut carry = 0u64;
        for &limb in &self.limbs {
            carry |= u64::from(limb) << (by % 32);
            limbs.push(carry as u32);
            carry >>= 32;
        }
        limbs.push(carry as u32);
        Natural { limbs }.trimmed()
    }

    fn halve(&mut self) {
        let mut carry = 0;
        for limb in self.limbs.iter_mut().rev() {
            let low = *limb & 1;
            *limb = *limb >> 1 | carry << 31;
            carry = low;
        }
        assert!(carry == 0, "only even numbers are halved");
        self.trim();
    }

    fn subtract(&mut self, other: &Natural) {
        let mut borrow = 0i64;
        for (index, limb) in self.limbs.iter_mut().enumerate() {
            let difference =
                i64::from(*limb) - i64::from(other.limbs.get(index).copied().unwrap_or(0)) + borrow;
            *limb = difference as u32;
            borrow = difference >> 32;
        }
        assert!(borrow == 0, "the smaller one is subtracted");
        self.trim();
    }

    fn order(&self, other: &Natural) -> Ordering {
        let by_length = self.limbs.len().cmp(&other.limbs.len());
        by_length.then_with(|| self.limbs.iter().rev().cmp(other.limbs.iter().rev()))
    }

    /// The highest 96 to 128 bits as a number, whether there is anything below them, and their exponent.
    pub(super) fn top_bits(&self) -> (u128, bool, i32) {
        let (low, high) = self.limbs.split_at(self.limbs.len().saturating_sub(4));
        let bits = high.iter().rev().fold(0u128, |bits, &limb| bits << 32 | u128::from(limb));
        (bits, low.iter().any(|&limb| limb != 0), low.len() as i32 * 32)
    }

    /// The same of the quotient, with at least 66 bits: schoolbook division, one bit after the other.
    pub(super) fn quotient_bits(&self, divisor: &Natural) -> (u128, bool, i32) {
        assert!(self.bits() > 0 && divisor.bits() > 0, "neither is zero");
        let exponent = self.bits() as i32 - divisor.bits() as i32 - QUOTIENT_BITS as i32;
        let up = (-exponent).max(0) as u32;
        let mut rest = self.shifted_left(up);
        // As great as the rest, or twice that.
        let mut part = divisor.shifted_left(rest.bits() - divisor.bits());
        let steps = rest.bits() - divisor.bits() + 1;
        let low_steps = exponent.max(0) as u32;
        let mut quotient = 0u128;
        for step in (0..steps).rev() {
            if step < low_steps {
                return (quotient, rest.bits() > 0, exponent);
            }
            quotient <<= 1;
            if rest.order(&part) != Ordering::Less {
                rest.subtract(&part);
                quotient |= 1;
            }
            if step > 0 {
                part.halve();
            }
        }
        (quotient, rest.bits() > 0, exponent.min(0))
    }

    /// Its digits. O(digits squared).
    pub(super) fn to_decimal(&self) -> String {
        let mut number = self.clone();
        let mut chunks = Vec::new();
        while !number.limbs.is_empty() {
            let mut rest = 0u64;
            for limb in number.limbs.iter_mut().rev() {
                rest = rest << 32 | u64::from(*limb);
                *limb = (rest / LIMB_OF_DIGITS) as u32;
                rest %= LIMB_OF_DIGITS;
            }
            chunks.push(rest);
            number.trim();
        }
        let Some(first) = chunks.pop() else { return "0".to_owned() };
        let mut text = first.to_string();
        for chunk in chunks.iter().rev() {
            text.push_str(&format!("{chunk:0DIGITS_PER_LIMB$}"));
        }
        text
    }

    fn trim(&mut self) {
        while self.limbs.last() == Some(&0) {
            self.limbs.pop();
        }
    }

    fn trimmed(mut self) -> Natural {
        self.trim();
        self
    }
}
