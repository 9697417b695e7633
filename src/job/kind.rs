//! What a failure means for the file and for the host.

use super::{ErrorClass, Failure};

/// What follows from a failure: the class of R19. A failure gets it from its [`ErrorClass`] and, where that is not
/// enough, from the status of the answer; the user can overrule it for a host (`retry_on`, `fail_on`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FailureKind {
    /// It may work next time: the file rests. Many in a row open the host's circuit.
    Transient,
    /// The host asks for fewer uploads: it is left alone as long as it wants, and no file pays for it.
    Limited,
    /// The host refuses our key or account: it is left alone until its owner acts, and no file pays for it.
    Account,
    /// This file will never be taken.
    File,
    /// The host said yes and gave no usable link. Many in a row make it suspect.
    BadResponse,
    /// Every byte was sent and no answer came: the image may be on the host.
    Unknown,
    /// Our own disk, or the user: nothing is said about the host.
    Ours,
}

impl FailureKind {
    /// What a failure of this class is if nothing else is known.
    #[must_use]
    pub fn of(class: ErrorClass) -> Self {
        match class {
            ErrorClass::Timeout | ErrorClass::Stall | ErrorClass::Connect => Self::Transient,
            ErrorClass::RateLimited => Self::Limited,
            ErrorClass::Account => Self::Account,
            ErrorClass::File | ErrorClass::Cancelled => Self::File,
            ErrorClass::BadResponse => Self::BadResponse,
            ErrorClass::UnknownOutcome => Self::Unknown,
            ErrorClass::Io => Self::Ours,
        }
    }

    /// What follows for the file and for the host.
    #[must_use]
    pub fn disposition(self) -> Disposition {
        match self {
            Self::Transient | Self::BadResponse | Self::Unknown | Self::Ours => Disposition::CoolDown,
            Self::Limited | Self::Account => Disposition::PauseHost,
            Self::File => Disposition::Reject,
        }
    }
}

/// What follows from a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposition {
    /// The file rests in `retry/` and uses up one requeue.
    CoolDown,
    /// The host rests; the file waits with it and uses up nothing.
    PauseHost,
    /// This machine has no network: the file waits and uses up nothing.
    AwaitNetwork,
    /// The file goes to `failed/`.
    Reject,
}

impl Failure {
    /// What follows for the file and for the host. The only place that decides it.
    #[must_use]
    pub fn disposition(&self) -> Disposition {
        match self.kind.disposition() {
            Disposition::CoolDown if self.offline => Disposition::AwaitNetwork,
            disposition => disposition,
        }
    }

    /// Whether the same request may be sent again within this attempt.
    ///
    /// Not after the last byte was sent without an answer: the image may be on the host already, so the file rests
    /// first. Not after a stall: what was silent for `stall_timeout` will not be well two seconds later, and the file's
    /// deadline is better spent by another file.
    #[must_use]
    pub fn worth_another_request(&self) -> bool {
        let passing = matches!(self.kind, FailureKind::Transient | FailureKind::BadResponse);
        let silent = matches!(self.class, ErrorClass::Timeout | ErrorClass::Stall | ErrorClass::UnknownOutcome);
        passing && !silent
    }

    /// The same failure with another meaning.
    #[must_use]
    pub fn meaning(mut self, kind: FailureKind) -> Self {
        self.kind = kind;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::super::Phase;
    use super::*;

    #[test]
    fn r19_no_class_forgets_a_file_and_only_the_file_itself_is_rejected() {
        let table = [
            (ErrorClass::Timeout, FailureKind::Transient, Disposition::CoolDown),
            (ErrorClass::Stall, FailureKind::Transient, Disposition::CoolDown),
            (ErrorClass::Connect, FailureKind::Transient, Disposition::CoolDown),
            (ErrorClass::BadResponse, FailureKind::BadResponse, Disposition::CoolDown),
            (ErrorClass::UnknownOutcome, FailureKind::Unknown, Disposition::CoolDown),
            (ErrorClass::Io, FailureKind::Ours, Disposition::CoolDown),
            (ErrorClass::RateLimited, FailureKind::Limited, Disposition::PauseHost),
            (ErrorClass::Account, FailureKind::Account, Disposition::PauseHost),
            (ErrorClass::File, FailureKind::File, Disposition::Reject),
            (ErrorClass::Cancelled, FailureKind::File, Disposition::Reject),
        ];
        assert_eq!(table.len(), ErrorClass::ALL.len());
        for (class, kind, disposition) in table {
            let failure = Failure::new(class, Phase::Send, "x");
            assert_eq!((failure.kind, failure.disposition()), (kind, disposition), "{class:?}");
        }
    }

    #[test]
    fn r28_a_machine_without_network_costs_a_file_nothing() {
        let mut failure = Failure::new(ErrorClass::Connect, Phase::Connect, "x");
        failure.offline = true;
        assert_eq!(failure.disposition(), Disposition::AwaitNetwork);
        // What the host itself has said counts more.
        assert_eq!(failure.meaning(FailureKind::Limited).disposition(), Disposition::PauseHost);
    }
}
