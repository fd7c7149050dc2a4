//! What a claimant's past proves: whom it followed, what it kept, and who has moved on without it.

use herdsman_node::{Lsn, NodeName};

use super::{Claim, Decision, Scene, list, none};
use crate::Moment;
use crate::evidence::Evidence;
use crate::judge::memory::{FirstClaim, Incumbent};
use crate::topology::Why;

/// Bytes in a page of the write-ahead log (`XLOG_BLCKSZ`).
const PAGE: u64 = 8192;

impl<'a> Scene<'a> {
    /// Whether the claimant followed the incumbent until just before it was promoted, lost nothing, and is the only one.
    pub(super) fn is_witnessed(&self, incumbent: &Incumbent, claim: Claim<'a>) -> bool {
        let (name, evidence) = claim;
        if !self.rules.witness {
            return true;
        }
        let Some(attachment) = self.memory.attachments.get(name) else { return false };
        let recent = attachment.at + self.config.witness_window >= self.latest(incumbent, name);
        let branched =
            attachment.timeline == incumbent.timeline && evidence.timeline > incumbent.timeline;
        let complete = !self.rules.keep_writes || self.loss(incumbent, claim).is_none();
        recent
            && branched
            && complete
            && self.silent_rivals(claim).next().is_none()
            && self.moved_on(evidence).is_empty()
    }

    /// Other standbys that were seen promoted to the same timeline or a later one, and do not answer now: their silence
    /// proves nothing.
    pub(super) fn silent_rivals(
        &self,
        (name, evidence): Claim<'a>,
    ) -> impl Iterator<Item = (&'a NodeName, &'a FirstClaim)> {
        self.memory.claims.iter().filter(move |(other, first)| {
            *other != name
                && first.timeline >= evidence.timeline
                && self.memory.standbys.contains(*other)
                && !self.live.contains_key(*other)
        })
    }

    /// A node that cannot have taken over, because it never followed here, or not since it was left: a restored copy, a
    /// stray.
    ///
    /// It must have turned up after we had known all followers of the incumbent for a while; a claimant from before
    /// that may be a promotion that was not seen.
    pub(super) fn is_intruder(&self, incumbent: &Incumbent, name: &NodeName) -> bool {
        let claimed = self.memory.claims.get(name).map_or(self.now, |first| first.since);
        self.rules.witness
            && *name != incumbent.node
            && (!self.memory.standbys.contains(name) || self.is_fenced(name))
            && claimed > incumbent.unaccounted + self.config.witness_window
    }

    /// What the incumbent had written and the claimant does not have, as far as can be seen, in words.
    pub(super) fn loss(
        &self,
        incumbent: &Incumbent,
        (name, evidence): Claim<'_>,
    ) -> Option<String> {
        let (node, timeline) = (&incumbent.node, incumbent.timeline);
        // Where history may not be read, later writes of the claimant must not hide what it lacked at first.
        let first = self.memory.claims.get(name).map_or(evidence.lsn, |first| first.lsn);
        let reached = match evidence.left(timeline) {
            Some(fork) => fork,
            None if (evidence.timeline == timeline && name != node)
                || !evidence.branches.is_empty() =>
            {
                return Some(format!("timeline {timeline} as {node} wrote it"));
            }
            None => first.min(evidence.lsn),
        };
        let owed = self.owed(incumbent, name);
        // A flush in the background ends at a page's end, in the middle of a record. Whoever received that much has
        // every whole record before it, and half a record was never acknowledged.
        let reached = match owed.0 % PAGE {
            0 => reached.max(evidence.received.unwrap_or_default()),
            _ => reached,
        };
        let bytes = owed.bytes_after(reached);
        (bytes > 0).then(|| format!("{bytes} bytes that {node} had written"))
    }

    /// How far the incumbent had got when this standby was last seen following it.
    ///
    /// What the incumbent wrote in the moment between its standby's leaving and our seeing the promotion cannot be on
    /// the standby: no asynchronous promotion beside a working primary would ever be complete. What it wrote for longer
    /// than that is a loss.
    pub(super) fn owed(&self, incumbent: &Incumbent, name: &NodeName) -> Lsn {
        let latest = self.latest(incumbent, name);
        let attachment = self.memory.attachments.get(name);
        let prompt = attachment.filter(|a| a.at + self.config.lease() >= latest);
        prompt.map_or(incumbent.flushed, |attachment| attachment.flushed)
    }

    /// Until when the standby could have followed: its claim, or the death of a primary that died before.
    ///
    /// A primary that died an hour before its standby was promoted acknowledged nothing in that hour.
    pub(super) fn latest(&self, incumbent: &Incumbent, name: &NodeName) -> Moment {
        let claimed = self.memory.claims.get(name).map_or(self.now, |first| first.since);
        claimed.min(incumbent.seen)
    }

    pub(super) fn what_is_missing(
        &self,
        incumbent: &Incumbent,
        challengers: &[Claim<'a>],
    ) -> String {
        let why = |claim: &Claim<'a>| {
            let name = claim.0;
            if let Some(loss) = self.loss(incumbent, *claim) {
                format!("{name} lacks {loss}")
            } else if let Some((rival, _)) = self.silent_rivals(*claim).next() {
                format!("{rival}, which does not answer now, was promoted as {name} was")
            } else {
                format!("{name} was not seen following {} until its promotion", incumbent.node)
            }
        };
        let unproven = |claim: &&Claim<'a>| !self.is_witnessed(incumbent, **claim);
        let missing: Vec<_> = challengers.iter().filter(unproven).map(why).collect();
        match missing.is_empty() {
            true => "several promotions were seen, and only one can be true".to_owned(),
            false => missing.join("; "),
        }
    }

    /// The refusal of a claimant whose timeline was left: by a primary that we do not see, or do not trust.
    pub(super) fn overtaken(&self, (name, evidence): Claim<'_>) -> Option<Decision> {
        let moved_on = self.moved_on(evidence);
        let reason = format!(
            "{name} claims timeline {}, but {} is on a newer one already",
            evidence.timeline,
            list(&moved_on)
        );
        (!moved_on.is_empty()).then(|| none(Why::Unattested, reason))
    }

    /// Live nodes that show a newer timeline than this claimant writes: standbys that receive it or came to it after
    /// following the incumbent, and former standbys that were promoted and refuse writes as yet.
    pub(super) fn moved_on(&self, claimant: &Evidence) -> Vec<NodeName> {
        let moved_on = |name: &NodeName, e: &Evidence| {
            let receives = e.blind || e.receiver.as_ref().is_some_and(|r| r.streaming);
            let shows = match e.in_recovery {
                true => receives || self.memory.attachments.contains_key(name),
                false => {
                    e.read_only && self.memory.standbys.contains(name) && !self.is_fenced(name)
                }
            };
            shows && e.timeline > claimant.timeline
        };
        self.live.iter().filter(|(n, e)| moved_on(n, e)).map(|(&n, _)| n.clone()).collect()
    }
}
