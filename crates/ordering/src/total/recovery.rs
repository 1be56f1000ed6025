//! From checkpoint and log back to a member: this layer has no records of its own.

use core::fmt;

use bytes::Bytes;
use keypact_protocol::{Lsn, Protocol, Recover, RecoveryError};

use super::admission::Admission;
use super::ordering::{Ordering, unwrap_meta};
use super::{Config, ReplicatedLog, Total};

/// A member on its way back.
pub struct Recovering<L: ReplicatedLog> {
    config: Config<()>,
    log: <L::Core as Protocol>::Recovery,
    ordering: Ordering,
}

impl<L: ReplicatedLog> fmt::Debug for Recovering<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Recovering({})", self.config.id)
    }
}

impl<L: ReplicatedLog> Recovering<L> {
    pub(super) fn begin(
        config: Config<<L::Core as Protocol>::Config>,
        checkpoint: Option<Bytes>,
        seed: u64,
    ) -> Result<Recovering<L>, RecoveryError> {
        let refused = |what| RecoveryError { what, lsn: Lsn::ZERO };
        config.validate().map_err(|error| refused(error.what()))?;
        let Config { id, members, log, window, resend_ms, max_batch_bytes, max_body_bytes } = config;
        let config = Config { id, members, log: (), window, resend_ms, max_batch_bytes, max_body_bytes };
        let kept = checkpoint.map(unwrap_meta).transpose();
        let kept = kept.map_err(|_| refused("a checkpoint's meta of another protocol"))?;
        let meta = kept.as_ref().map(|(meta, _)| meta.clone());
        let log = L::Core::begin(log, meta, seed)?;
        Ok(Recovering { ordering: Ordering::new(id, seed, kept), config, log })
    }
}

impl<L: ReplicatedLog> Recover<Total<L>> for Recovering<L> {
    fn replay(&mut self, lsn: Lsn, record: <L::Core as Protocol>::Record) -> Result<(), RecoveryError> {
        self.log.replay(lsn, record)
    }

    fn finish(self) -> Total<L> {
        assert!(self.ordering.answers.is_empty(), "nothing was asked yet");
        Total {
            admission: Admission::new(self.config.window),
            config: self.config,
            core: self.log.finish(),
            ordering: self.ordering,
            proposals: 0,
            timer_set: false,
        }
    }
}
