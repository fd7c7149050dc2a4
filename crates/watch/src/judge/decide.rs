//! The decision: claims, who follows whom, and what is remembered → one verdict.
//!
//! The order of the rules is the order of their authority: the operator's pin, the outside authority, then proof.
//! Proof is one of: a promotion that was seen coming and lost nothing; every standby behind the newest timeline; an
//! incumbent nobody contests; and for a first primary the word of its standbys and a quorum.

use std::collections::BTreeMap;

use herdsman_node::{Lsn, NodeName, Timeline};

use super::attest::{self, Live, Stance};
use super::memory::{FirstClaim, Incumbent, Memory};
use super::rules::Rules;
use crate::Moment;
use crate::config::{LostStandbys, Quorum, SplitBrain, WatchConfig};
use crate::evidence::Evidence;
use crate::topology::{Proof, Verdict, Why};

/// Bytes in a page of the write-ahead log (`XLOG_BLCKSZ`).
const PAGE: u64 = 8192;

/// All the decision looks at.
pub(super) struct Scene<'a> {
    pub(super) now: Moment,
    pub(super) config: &'a WatchConfig,
    pub(super) rules: Rules,
    pub(super) memory: &'a Memory,
    /// Live nodes of our cluster.
    pub(super) live: &'a Live<'a>,
    pub(super) stances: &'a BTreeMap<NodeName, Stance>,
    /// Since when each live standby has been following nobody.
    pub(super) detached: &'a BTreeMap<NodeName, Moment>,
    /// How many nodes are configured.
    pub(super) configured: usize,
    /// Whether every configured node has answered or failed at least once.
    pub(super) all_tried: bool,
    /// Whether the operator's pin has not run out.
    pub(super) pin_holds: bool,
    /// Whom the outside authority named, while its word is fresh.
    pub(super) authority: Option<&'a NodeName>,
}

/// What was decided and what is to be remembered of it.
#[derive(Debug)]
pub(super) struct Decision {
    pub(super) verdict: Verdict,
    /// Claimants to fence besides the outgoing primary.
    pub(super) fence: Vec<NodeName>,
}

type Claim<'a> = (&'a NodeName, &'a Evidence);

impl From<Verdict> for Decision {
    fn from(verdict: Verdict) -> Self {
        Self { verdict, fence: Vec::new() }
    }
}

/// Reaches the verdict.
pub(super) fn decide(scene: &Scene<'_>) -> Decision {
    if scene.rules.wait_for_all && scene.memory.incumbent.is_none() && !scene.all_tried {
        return none(Why::Starting, "not every node has been tried yet".to_owned());
    }
    let claims = scene.claims();
    if let Some(decision) = scene.overruled(&claims) {
        return decision;
    }
    if scene.config.split_brain == SplitBrain::None {
        let raw = scene.raw_claims();
        if raw.len() > 1 {
            return scene.split(&raw, "`split_brain: none` hands nobody out while two claim");
        }
    }
    if claims.is_empty() {
        return scene.nobody_claims();
    }
    match &scene.memory.incumbent {
        None => scene.first(&claims),
        Some(incumbent) => scene.contested(incumbent, &claims),
    }
}

impl<'a> Scene<'a> {
    /// Live nodes that accept writes by their own word, whatever else is wrong with them.
    fn raw_claims(&self) -> Vec<Claim<'a>> {
        self.live.iter().filter(|(_, e)| !e.in_recovery).map(|(&n, &e)| (n, e)).collect()
    }

    /// Claims that count: not fenced, not refusing writes, not on a timeline that was left behind.
    fn claims(&self) -> Vec<Claim<'a>> {
        let newest = self.memory.incumbent.as_ref().map(|i| i.timeline);
        let forward =
            |e: &Evidence| !self.rules.forward_only || newest.is_none_or(|t| e.timeline >= t);
        let mut claims = self.raw_claims();
        claims.retain(|(name, e)| {
            !e.read_only && forward(e) && (!self.is_fenced(name) || self.is_redeemed(name, e))
        });
        claims
    }

    fn is_fenced(&self, name: &NodeName) -> bool {
        self.rules.fence && self.memory.fences.contains_key(name)
    }

    /// A fenced node that came back while nobody looked: on a timeline it can only have reached through recovery since it
    /// was fenced, or on one newer than any accepted with every other live node behind it and enough of them. Of a node
    /// that was only taken for a copy, every standby is enough.
    fn is_redeemed(&self, name: &NodeName, evidence: &Evidence) -> bool {
        let newer = self.memory.incumbent.as_ref().is_none_or(|i| evidence.timeline > i.timeline);
        let promoted = self.memory.fences.get(name).is_some_and(|t| evidence.timeline > *t);
        let stray = self.memory.strays.contains(name);
        let others = if stray { self.stances.len() } else { self.live.len() - 1 };
        let behind = self.behind(name);
        let joined = others > 0 && behind == others && 1 + behind >= self.quorum().max(2);
        promoted || (newer && joined)
    }

    /// The operator's pin and the outside authority come before all proof, but not before a node's own recovery state.
    fn overruled(&self, claims: &[Claim<'a>]) -> Option<Decision> {
        if let Some(pin) = self.config.pin.as_ref().filter(|_| self.pin_holds) {
            let evidence = self.live.get(&pin.node).copied();
            let usable = evidence.filter(|e| {
                !e.in_recovery
                    && pin.min_timeline.is_none_or(|t| e.timeline >= t)
                    && pin.system_id.is_none_or(|id| e.system_id == id)
            });
            return Some(match usable {
                Some(e) => {
                    let mut decision =
                        accept(&pin.node, e, Proof::Pinned, "the operator pinned it".to_owned());
                    decision.fence = self
                        .raw_claims()
                        .iter()
                        .map(|c| c.0.clone())
                        .filter(|n| *n != pin.node)
                        .collect();
                    decision
                }
                None => none(
                    Why::Overruled,
                    format!("{} is pinned and cannot be primary now", pin.node),
                ),
            });
        }
        let named = self.authority?;
        Some(match claims.iter().find(|(name, _)| *name == named) {
            Some((name, e)) => {
                accept(name, e, Proof::Authority, "the configured authority names it".to_owned())
            }
            None => none(
                Why::Overruled,
                format!("the authority names {named}, which does not accept writes now"),
            ),
        })
    }

    fn nobody_claims(&self) -> Decision {
        let raw = self.raw_claims();
        if let Some((name, _)) = raw.iter().find(|(_, e)| e.read_only) {
            return none(
                Why::ReadOnly,
                format!("{name} refuses writes (default_transaction_read_only is on)"),
            );
        }
        if let Some((name, e)) = raw.first() {
            let newest = self.memory.incumbent.as_ref().map_or(Timeline(0), |i| i.timeline);
            let left = format!(
                "{name} claims timeline {}, which was left for timeline {newest}",
                e.timeline
            );
            return none(
                Why::Fenced,
                format!("{left}; it is fenced until it has been seen in recovery"),
            );
        }
        let reason = match &self.memory.incumbent {
            Some(i) if self.live.contains_key(&i.node) => {
                format!("{}, the last primary, is in recovery now", i.node)
            }
            Some(i) => format!(
                "{}, the last primary, does not answer, and nobody else accepts writes",
                i.node
            ),
            None if self.live.is_empty() => "no node answers".to_owned(),
            None => "every node that answers is in recovery".to_owned(),
        };
        none(Why::NoClaimant, reason)
    }

    /// No primary was ever accepted: the full rule.
    fn first(&self, claims: &[Claim<'a>]) -> Decision {
        match claims {
            [claim] => self.attested(*claim, 0),
            _ => self
                .unanimous(claims)
                .unwrap_or_else(|| self.split(claims, "no proof tells which is true")),
        }
    }

    /// There was a primary: it stays, or somebody proves to have taken over.
    fn contested(&self, incumbent: &Incumbent, claims: &[Claim<'a>]) -> Decision {
        let (own, challengers): (Vec<_>, Vec<_>) = claims
            .iter()
            .copied()
            .partition(|(n, e)| **n == incumbent.node && e.timeline == incumbent.timeline);
        let (intruders, known): (Vec<Claim<'a>>, Vec<Claim<'a>>) =
            challengers.iter().copied().partition(|(n, _)| self.is_intruder(incumbent, n));
        let (proven, unproven): (Vec<Claim<'a>>, Vec<Claim<'a>>) =
            known.iter().copied().partition(|claim| self.is_witnessed(incumbent, *claim));

        if let ([claim], []) = (proven.as_slice(), unproven.as_slice()) {
            let kept = if claim.1.left(incumbent.timeline).is_some() {
                "its history shows that nothing acknowledged was lost"
            } else {
                "its position is past everything seen acknowledged"
            };
            let reason = format!("it was promoted while following {} and {kept}", incumbent.node);
            let mut decision = accept(claim.0, claim.1, Proof::WitnessedPromotion, reason);
            decision.fence = intruders.iter().map(|c| c.0.clone()).collect();
            return decision;
        }
        if claims.len() > 1
            && !challengers.is_empty()
            && let Some(decision) = self.unanimous(claims)
        {
            return decision;
        }
        match (own.as_slice(), challengers.as_slice()) {
            ([claim], []) => self.uncontested(*claim),
            ([claim], _)
                if known.is_empty()
                    && self.behind(claim.0) > 0
                    && self.moved_on(claim.1).is_empty()
                    && self.objectors(claim.0).is_empty() =>
            {
                let reason = "its standbys follow it, and the other claimant was never one of them"
                    .to_owned();
                let mut decision = accept(claim.0, claim.1, Proof::Incumbent, reason);
                decision.fence = intruders.iter().map(|c| c.0.clone()).collect();
                decision
            }
            ([], [claim]) if intruders.is_empty() && !self.is_fenced(claim.0) => {
                self.successor(incumbent, *claim)
            }
            ([], [claim]) => self.attested(*claim, 1),
            _ => self.split(claims, &self.what_is_missing(incumbent, &challengers)),
        }
    }

    /// The incumbent, and nobody else claims.
    fn uncontested(&self, claim: Claim<'a>) -> Decision {
        let behind = self.behind(claim.0);
        if let Some(decision) = self.overtaken(claim) {
            return decision;
        }
        // A rival that merely does not answer may still be writing; one that is certainly gone is not.
        let rival = self.silent_rivals(claim).find(|(rival, first)| {
            !first.gone && first.timeline > claim.1.timeline && !self.is_fenced(rival)
        });
        if let Some((rival, first)) = rival {
            let (name, newer) = (claim.0, first.timeline);
            let reason = format!(
                "{name} claims to be primary, but {rival} claimed timeline {newer} and does not answer now"
            );
            return none(Why::Unattested, reason);
        }
        if 1 + behind >= self.quorum() && self.objectors(claim.0).is_empty() {
            return accept(claim.0, claim.1, Proof::Attested, self.attestation(behind));
        }
        if self.config.lost_standbys == LostStandbys::Hold {
            return self.attested(claim, 0);
        }
        let reason = format!(
            "it was primary before, still answers, and nobody else claims (standbys that follow: {behind})"
        );
        accept(claim.0, claim.1, Proof::Incumbent, reason)
    }

    /// The incumbent is gone; one former standby claims without its promotion having been witnessed.
    fn successor(&self, incumbent: &Incumbent, claim: Claim<'a>) -> Decision {
        let name = claim.0;
        if self.rules.keep_writes
            && self.followers(name) == 0
            && let Some(loss) = self.loss(incumbent, claim)
        {
            let reason = format!(
                "{name} was promoted without {loss}; pin {name} (watch.pin) to accept the loss, or let another node \
                 follow it"
            );
            return none(Why::LostWrites, reason);
        }
        self.attested(claim, 0)
    }

    /// The full rule for a single claimant: every live standby is behind it (or broken for longer than the grace, or
    /// must not be asked), and with at least `needed` of them the quorum agrees.
    fn attested(&self, (name, evidence): Claim<'a>, needed: usize) -> Decision {
        if !self.rules.attest {
            return accept(name, evidence, Proof::Attested, self.attestation(self.behind(name)));
        }
        if let Some(decision) = self.overtaken((name, evidence)) {
            return decision;
        }
        let objectors = self.objectors(name);
        if !objectors.is_empty() {
            let who = list(&objectors);
            return none(
                Why::Unattested,
                format!("{name} claims to be primary, but {who} do not follow it"),
            );
        }
        let (behind, quorum) = (self.behind(name), self.quorum());
        if 1 + behind < quorum || behind < needed {
            let quorum = quorum.max(1 + needed);
            let reason = format!(
                "{name} claims to be primary; {} of {} nodes agree and {quorum} must (watch.quorum)",
                1 + behind,
                self.configured
            );
            return none(Why::NoQuorum, reason);
        }
        accept(name, evidence, Proof::Attested, self.attestation(behind))
    }

    /// Several claim: the one on the newest timeline wins if every live standby is behind it and none behind another.
    fn unanimous(&self, claims: &[Claim<'a>]) -> Option<Decision> {
        let newest = claims.iter().map(|(_, e)| e.timeline).max()?;
        let mut candidates = claims.iter().filter(|(_, e)| e.timeline == newest);
        let (&(name, evidence), None) = (candidates.next()?, candidates.next()) else {
            return None;
        };
        let standbys = self.stances.len();
        let behind = self.followers(name);
        let overtaken = !self.moved_on(evidence).is_empty();
        if standbys == 0 || behind < standbys || 1 + behind < self.quorum() || overtaken {
            return None;
        }
        let others: Vec<_> = claims.iter().map(|c| c.0.clone()).filter(|n| n != name).collect();
        let reason =
            format!("it has the newest timeline and every standby; {} has none", list(&others));
        let mut decision = accept(name, evidence, Proof::Unanimous, reason);
        decision.fence = others;
        Some(decision)
    }

    /// Whether the claimant followed the incumbent until just before it was promoted, lost nothing, and is the only one.
    fn is_witnessed(&self, incumbent: &Incumbent, claim: Claim<'a>) -> bool {
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
    fn silent_rivals(
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
    fn is_intruder(&self, incumbent: &Incumbent, name: &NodeName) -> bool {
        let claimed = self.memory.claims.get(name).map_or(self.now, |first| first.since);
        self.rules.witness
            && *name != incumbent.node
            && (!self.memory.standbys.contains(name) || self.is_fenced(name))
            && claimed > incumbent.unaccounted + self.config.witness_window
    }

    /// What the incumbent had written and the claimant does not have, as far as can be seen, in words.
    fn loss(&self, incumbent: &Incumbent, (name, evidence): Claim<'_>) -> Option<String> {
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
    fn owed(&self, incumbent: &Incumbent, name: &NodeName) -> Lsn {
        let latest = self.latest(incumbent, name);
        let attachment = self.memory.attachments.get(name);
        let prompt = attachment.filter(|a| a.at + self.config.lease() >= latest);
        prompt.map_or(incumbent.flushed, |attachment| attachment.flushed)
    }

    /// Until when the standby could have followed: its claim, or the death of a primary that died before.
    ///
    /// A primary that died an hour before its standby was promoted acknowledged nothing in that hour.
    fn latest(&self, incumbent: &Incumbent, name: &NodeName) -> Moment {
        let claimed = self.memory.claims.get(name).map_or(self.now, |first| first.since);
        claimed.min(incumbent.seen)
    }

    fn what_is_missing(&self, incumbent: &Incumbent, challengers: &[Claim<'a>]) -> String {
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
    fn overtaken(&self, (name, evidence): Claim<'_>) -> Option<Decision> {
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
    fn moved_on(&self, claimant: &Evidence) -> Vec<NodeName> {
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

    /// Standbys seen to be behind `name`, through any cascade.
    fn followers(&self, name: &NodeName) -> usize {
        self.stances.keys().filter(|s| attest::root(s, self.stances) == Some(name)).count()
    }

    /// Standbys at the end of whose chain `name` stands; those we may not ask count as behind it.
    fn behind(&self, name: &NodeName) -> usize {
        let is_behind = |(standby, stance): &(&NodeName, &Stance)| {
            **stance == Stance::Unseen || attest::root(standby, self.stances) == Some(name)
        };
        self.stances.iter().filter(is_behind).count()
    }

    /// Live standbys that do not follow `name` and have not been detached long enough to count as broken.
    fn objectors(&self, name: &NodeName) -> Vec<NodeName> {
        let objects = |standby: &&NodeName| {
            let unseen = self.stances.get(*standby) == Some(&Stance::Unseen);
            let broken = self
                .detached
                .get(*standby)
                .is_some_and(|since| self.now.since(*since) >= self.config.suspect_grace);
            !unseen && !broken && attest::root(standby, self.stances) != Some(name)
        };
        self.stances.keys().filter(objects).cloned().collect()
    }

    fn quorum(&self) -> usize {
        match self.config.quorum {
            Quorum::Auto if self.configured >= 3 => self.configured / 2 + 1,
            Quorum::Majority => self.configured / 2 + 1,
            Quorum::Any => 2,
            Quorum::Auto | Quorum::None => 1,
        }
    }

    fn attestation(&self, behind: usize) -> String {
        let blind = self.live.values().any(|e| e.blind);
        let note = if blind { "; without pg_monitor their word cannot be checked" } else { "" };
        match (behind, self.stances.len()) {
            (0, 0) => "it is the only one that claims the role, and no standby answers".to_owned(),
            (behind, all) => format!(
                "{behind} of {all} standbys that answer follow it, and it says so too{note}"
            ),
        }
    }

    fn split(&self, claims: &[Claim<'_>], missing: &str) -> Decision {
        let claimants: Vec<_> = claims.iter().map(|c| c.0.clone()).collect();
        let stories: Vec<_> =
            claims.iter().map(|(n, e)| format!("{n} on timeline {}", e.timeline)).collect();
        let all = if claims.len() == 2 { "both" } else { "all" };
        let reason = format!("{} {all} accept writes: {missing}", stories.join(" and "));
        Decision::from(Verdict::SplitBrain { claimants, reason })
    }
}

fn accept(name: &NodeName, evidence: &Evidence, proof: Proof, reason: String) -> Decision {
    Verdict::Primary { node: name.clone(), timeline: evidence.timeline, proof, reason }.into()
}

fn none(why: Why, reason: String) -> Decision {
    Verdict::None { why, reason }.into()
}

fn list(names: &[NodeName]) -> String {
    names.iter().map(NodeName::as_str).collect::<Vec<_>>().join(", ")
}
