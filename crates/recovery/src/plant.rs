//! Planted bugs of this crate: known mistakes that a build with feature `plant` can switch on, one at a time, to show that the checks find
//! them. Without the feature [`planted`] is `false` at compile time, and the mistakes are not in the binary.

macro_rules! plants {
    ($(($plant:ident, $name:literal, $scenario:literal, $about:literal),)*) => {
        /// The mistakes that can be planted.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[repr(u32)]
        pub enum Plant {
            $(#[doc = $about] $plant,)*
        }

        impl Plant {
            /// All of them, in a fixed order.
            pub const ALL: &[Plant] = &[$(Plant::$plant),*];

            /// Its name on the command line.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Plant::$plant => $name,)*
                }
            }

            /// The scenario whose random seeds must catch it.
            #[must_use]
            pub const fn scenario(self) -> &'static str {
                match self {
                    $(Plant::$plant => $scenario,)*
                }
            }

            /// What is wrong with it, one line.
            #[must_use]
            pub const fn about(self) -> &'static str {
                match self {
                    $(Plant::$plant => $about,)*
                }
            }
        }
    };
}

plants! {
    (ResultAfterEffect, "result-after-effect", "idempotency", "the result of an operation is stored after its effect, not with it"),
    (FingerprintIgnored, "fingerprint-ignored", "idempotency", "a token that is used for another operation is answered with the first one's result"),
    (FalsyRunAgain, "falsy-run-again", "idempotency", "a result that is nil, 0 or empty is taken for no result, and the operation runs again"),
    (ForgottenTakenForNew, "forgotten-taken-for-new", "idempotency", "a token that was forgotten is taken for a new one"),
    (OverflowAtAttempt64, "overflow-at-attempt-64", "retry", "the delay wraps around after many attempts"),
    (BudgetNeverRefilled, "budget-never-refilled", "retry", "neither first tries nor time put anything into the retry budget"),
    (UncertainWithoutToken, "uncertain-without-token", "retry", "what may have been applied is tried again without a token"),
    (HalfOpenAdmitsAll, "half-open-admits-all", "circuit-breaker", "a half-open breaker lets every call through"),
    (WindowNeverEvicts, "window-never-evicts", "circuit-breaker", "calls that have left the window still count in its rates"),
    (ProbeSuccessLeavesOpen, "probe-success-leaves-open", "circuit-breaker", "a breaker opens again although its probes succeeded"),
}

/// 0: none; else the plant's place in the list, counted from 1.
#[cfg(feature = "plant")]
static ACTIVE: core::sync::atomic::AtomicU32 = core::sync::atomic::AtomicU32::new(0);

/// Whether this bug is switched on. Always `false` without feature `plant`.
#[must_use]
#[inline]
pub fn planted(plant: Plant) -> bool {
    #[cfg(feature = "plant")]
    return ACTIVE.load(core::sync::atomic::Ordering::Relaxed) == plant as u32 + 1;
    #[cfg(not(feature = "plant"))]
    {
        let _ = plant;
        false
    }
}

/// Switches one bug on, for the whole process; `None` switches all off.
#[cfg(feature = "plant")]
pub fn switch_on(plant: Option<Plant>) {
    ACTIVE.store(plant.map_or(0, |p| p as u32 + 1), core::sync::atomic::Ordering::Relaxed);
}
