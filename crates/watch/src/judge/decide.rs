//! The decision: claims, who follows whom, and what is remembered → one verdict.
//!
//! The order of the rules is the order of their authority: the operator's pin, the outside authority, then proof.
//! Proof is one of: a promotion that was seen coming and lost nothing; every standby behind the newest timeline; an
//! incumbent nobody contests; and for a first primary the word of its standbys and a quorum.

mod history;

use std::collections::BTreeMap;

use herdsman_node::{NodeName, Timeline};

use super::attest::{self, Live, Stance};
use super::memory::{Incumbent, Memory};
use super::rules::Rules;
use crate::Moment;
use crate::config::{LostStandbys, Quorum, SplitBrain, WatchConfig};
use crate::evidence::Evidence;
use crate::topology::{Proof, Verdict, Why};

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
            "it was primary before, still answers, and no other claim counts (standbys that follow: {behind})"
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
