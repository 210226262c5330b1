//! Who owns which addresses: the claims of all nodes to pod CIDRs and addresses, and the verdict on each.
//!
//! A Node object is written by its kubelet, so a claim is no more than that. Claims are judged one by one: a refused
//! claim costs its node nothing else. First come the bounds that the operator declared ([`check_address`],
//! [`check_pod_cidr`]); then collisions. All claims, addresses as /32 or /128, go into one index in order of seniority,
//! and a claim is refused exactly if it overlaps a senior claim *that stands*. So a refused claim, a liar's, never costs
//! anybody anything, and the accepted claims are disjoint.
//!
//! Seniority: the lower [`Claim::since`](crate::cluster::Claim::since); then our own node's before a peer's (what a
//! newcomer says at the same moment can't take our pods from us); then an address before a pod CIDR (the underlay was
//! there first); then the node's name. Where a peer's claim is senior to ours, ours is refused here as it is on every
//! other node, so that the cluster agrees on where packets go; we keep serving the pods we have, and say so in a note.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::cidr::Cidr;
use crate::cluster::{ClusterNetworks, Node};
use crate::family::{Family, PerFamily};
use crate::name::NodeName;

/// What is claimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// A node's address.
    Address,
    /// A pod CIDR.
    PodCidr,
}

/// Whose claim it is. Sorts by seniority, senior first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Claimant {
    since: u64,
    peer: bool,
    pub kind: Kind,
    pub node: NodeName,
}

/// Why a claim is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// No host or pod can have it: says what it is.
    Senseless(&'static str),
    /// Outside the networks that the operator declared for it.
    Outside,
    /// Overlaps a service range.
    Services(Cidr),
    /// A pod CIDR in a network that the operator declared for nodes.
    NodeNetwork(Cidr),
    /// Overlaps a senior claim.
    Taken {
        /// What is claimed there.
        cidr: Cidr,
        /// By whom.
        by: Claimant,
    },
}

/// All claims that are within the declared bounds, judged.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Claims {
    /// Those that stand: disjoint.
    accepted: BTreeMap<Cidr, Claimant>,
    /// Those that don't, with the claim that stands in the way.
    refused: BTreeMap<(Cidr, Claimant), Cidr>,
    /// How many refused claims there are of each prefix length.
    refused_lengths: PerFamily<BTreeMap<u8, usize>>,
}

/// The claims of one node that are within the declared bounds, in the families in which pods are declared.
pub(super) fn claims_of(
    node: &Node,
    own: &NodeName,
    networks: &ClusterNetworks,
) -> BTreeSet<(Cidr, Claimant)> {
    let claimant = |since, kind| Claimant { since, peer: node.name != *own, kind, node: node.name.clone() };
    let addresses = node
        .addresses
        .iter()
        .filter(|claim| in_use(networks, Family::of(claim.value)))
        .filter(|claim| check_address(claim.value, networks).is_ok())
        .map(|claim| (Cidr::host(claim.value), claimant(claim.since, Kind::Address)));
    let pod_cidrs = node
        .pod_cidrs
        .iter()
        .filter(|claim| check_pod_cidr(claim.value, networks).is_ok())
        .map(|claim| (claim.value, claimant(claim.since, Kind::PodCidr)));
    let mut claims: BTreeSet<_> = addresses.chain(pod_cidrs).collect();
    // Said twice is said once, at the earlier time.
    let mut said = BTreeSet::new();
    claims.retain(|(cidr, claimant)| said.insert((*cidr, claimant.kind)));
    claims
}

/// Whether a node may have this address, as far as that is seen without other nodes.
pub(super) fn check_address(address: IpAddr, networks: &ClusterNetworks) -> Result<(), Refusal> {
    if let Some(what) = senseless(Cidr::host(address)) {
        return Err(Refusal::Senseless(what));
    }
    if let Some(services) = networks.services.iter().find(|services| services.contains(address)) {
        return Err(Refusal::Services(*services));
    }
    if !networks.nodes.is_empty() && !networks.nodes.iter().any(|nodes| nodes.contains(address)) {
        return Err(Refusal::Outside);
    }
    Ok(())
}

/// Whether a node may have this pod CIDR, as far as that is seen without other nodes.
pub(super) fn check_pod_cidr(cidr: Cidr, networks: &ClusterNetworks) -> Result<(), Refusal> {
    if let Some(what) = senseless(cidr) {
        return Err(Refusal::Senseless(what));
    }
    if let Some(services) = networks.services.iter().find(|services| services.overlaps(cidr)) {
        return Err(Refusal::Services(*services));
    }
    let holds = |network: &&Cidr| network.contains_cidr(cidr);
    let Some(pods) = networks.pods.iter().filter(holds).max_by_key(|network| network.prefix_len()) else {
        return Err(Refusal::Outside);
    };
    // Where the operator's own declarations overlap, the more specific one says what is meant: pods in 10.0.0.0/8 but not
    // in 10.1.0.0/16 of the nodes, or nodes in 10.0.0.0/8 but not in 10.244.0.0/16 of the pods.
    let narrower = |nodes: &&Cidr| nodes.overlaps(cidr) && nodes.prefix_len() > pods.prefix_len();
    networks.nodes.iter().find(narrower).map_or(Ok(()), |nodes| Err(Refusal::NodeNetwork(*nodes)))
}

/// What an address that is nobody's own is called.
fn senseless(cidr: Cidr) -> Option<&'static str> {
    const SENSELESS: [(Cidr, &str); 9] = [
        (Cidr::v4([0, 0, 0, 0], 8), "unspecified (0.0.0.0/8)"),
        (Cidr::v4([127, 0, 0, 0], 8), "loopback (127.0.0.0/8)"),
        (Cidr::v4([169, 254, 0, 0], 16), "link-local (169.254.0.0/16)"),
        (Cidr::v4([224, 0, 0, 0], 4), "multicast (224.0.0.0/4)"),
        (Cidr::v4([255; 4], 32), "broadcast (255.255.255.255)"),
        // Unspecified, loopback and IPv4-mapped addresses.
        (Cidr::v6(0, 64), "unspecified or loopback (::/64)"),
        (Cidr::v6(0xfe80, 10), "link-local (fe80::/10)"),
        (Cidr::v6(0xff00, 8), "multicast (ff00::/8)"),
        (Cidr::v6(0x0100, 64), "the discard prefix (100::/64)"),
    ];
    SENSELESS.iter().find(|(range, _)| range.overlaps(cidr)).map(|(_, what)| *what)
}

impl Claims {
    /// Judges a whole cluster's claims.
    pub fn judge(claims: impl Iterator<Item = (Cidr, Claimant)>) -> Claims {
        let mut all: Vec<(Cidr, Claimant)> = claims.collect();
        all.sort_unstable();
        let (mut alone, mut contested) = (Vec::with_capacity(all.len()), Vec::new());
        // In order, all that a network contains comes right after it; hardly ever is there anything.
        let mut all = all.into_iter().peekable();
        while let Some((widest, who)) = all.next() {
            let mut inside =
                std::iter::from_fn(|| all.next_if(|(cidr, _)| widest.contains_cidr(*cidr))).peekable();
            if inside.peek().is_some() {
                contested.push((widest, who));
                contested.extend(inside);
            } else {
                alone.push((widest, who));
            }
        }
        let mut judged = Claims { accepted: alone.into_iter().collect(), ..Claims::default() };
        judged.change([], contested);
        judged
    }

    /// Takes claims out and in, and judges again what that concerns. Gives the nodes with a verdict that may differ.
    pub fn change(
        &mut self,
        removed: impl IntoIterator<Item = (Cidr, Claimant)>,
        added: impl IntoIterator<Item = (Cidr, Claimant)>,
    ) -> BTreeSet<NodeName> {
        // Ordered by seniority: when a claim is judged, the verdicts on all senior ones are final.
        let mut open: BTreeSet<(Claimant, Cidr)> = added.into_iter().map(|(cidr, who)| (who, cidr)).collect();
        for (cidr, who) in removed {
            if self.accepted.get(&cidr) == Some(&who) {
                self.accepted.remove(&cidr);
                self.reopen_juniors(cidr, &who, &mut open);
            } else {
                self.unrefuse(cidr, &who);
            }
            open.remove(&(who, cidr));
        }
        let mut touched = BTreeSet::new();
        while let Some((who, cidr)) = open.pop_first() {
            touched.insert(who.node.clone());
            let mut standing = self.overlapping(cidr);
            let senior = standing.find(|(held, by)| (*by, held) < (&who, &cidr)).map(|(held, _)| held);
            drop(standing);
            let stood = self.accepted.get(&cidr) == Some(&who);
            match senior {
                Some(held) => {
                    if stood {
                        self.accepted.remove(&cidr);
                        self.reopen_juniors(cidr, &who, &mut open);
                    }
                    self.refuse(cidr, who, held);
                }
                None if stood => {}
                None => {
                    self.unrefuse(cidr, &who);
                    let juniors: Vec<Cidr> = self.overlapping(cidr).map(|(held, _)| held).collect();
                    for held in juniors {
                        if let Some(by) = self.accepted.remove(&held) {
                            self.reopen_juniors(held, &by, &mut open);
                            open.insert((by, held));
                        }
                    }
                    self.reopen_juniors(cidr, &who, &mut open);
                    self.accepted.insert(cidr, who);
                }
            }
        }
        touched
    }

    /// The verdict on an address of a node.
    pub fn judge_address(
        &self,
        node: &Node,
        address: IpAddr,
        networks: &ClusterNetworks,
    ) -> Result<(), Refusal> {
        check_address(address, networks)?;
        let same = node.addresses.iter().filter(|claim| claim.value == address);
        self.verdict(node, Cidr::host(address), Kind::Address, same.map(|claim| claim.since).min())
    }

    /// The verdict on a pod CIDR of a node.
    pub fn judge_pod_cidr(&self, node: &Node, cidr: Cidr, networks: &ClusterNetworks) -> Result<(), Refusal> {
        check_pod_cidr(cidr, networks)?;
        let same = node.pod_cidrs.iter().filter(|claim| claim.value == cidr);
        self.verdict(node, cidr, Kind::PodCidr, same.map(|claim| claim.since).min())
    }

    fn verdict(&self, node: &Node, cidr: Cidr, kind: Kind, since: Option<u64>) -> Result<(), Refusal> {
        if self.accepted.get(&cidr).is_some_and(|who| who.kind == kind && who.node == node.name) {
            return Ok(());
        }
        let lost_to = [true, false].into_iter().find_map(|peer| {
            let who = Claimant { since: since?, peer, kind, node: node.name.clone() };
            self.refused.get(&(cidr, who))
        });
        match lost_to.and_then(|held| Some((*held, self.accepted.get(held)?))) {
            Some((held, by)) => Err(Refusal::Taken { cidr: held, by: by.clone() }),
            // Not indexed at all: its family is not in use.
            None => Err(Refusal::Outside),
        }
    }

    /// The claims that stand and share addresses with `cidr`, in order.
    pub fn overlapping(&self, cidr: Cidr) -> impl Iterator<Item = (Cidr, &Claimant)> {
        // They are disjoint, so that only the last one before can reach into it.
        let around = self.accepted.range(..cidr).next_back().filter(|(held, _)| held.contains_cidr(cidr));
        let inside = self.accepted.range(cidr..=Cidr::host(cidr.last_address()));
        around.into_iter().chain(inside).map(|(held, who)| (*held, who))
    }

    /// The node whose address this is.
    pub fn owner_of_address(&self, address: IpAddr) -> Option<&NodeName> {
        let who = self.accepted.get(&Cidr::host(address))?;
        (who.kind == Kind::Address).then_some(&who.node)
    }

    fn refuse(&mut self, cidr: Cidr, who: Claimant, held: Cidr) {
        if self.refused.insert((cidr, who), held).is_none() {
            *self.refused_lengths.get_mut(cidr.family()).entry(cidr.prefix_len()).or_default() += 1;
        }
    }

    fn unrefuse(&mut self, cidr: Cidr, who: &Claimant) {
        if self.refused.is_empty() || self.refused.remove(&(cidr, who.clone())).is_none() {
            return;
        }
        let lengths = self.refused_lengths.get_mut(cidr.family());
        if let Some(count) = lengths.get_mut(&cidr.prefix_len()) {
            *count -= 1;
            if *count == 0 {
                lengths.remove(&cidr.prefix_len());
            }
        }
    }

    /// Has refused claims judged again that overlap `cidr` and are junior to its claimant.
    fn reopen_juniors(&self, cidr: Cidr, who: &Claimant, open: &mut BTreeSet<(Claimant, Cidr)>) {
        if self.refused.is_empty() {
            return;
        }
        let lowest = Claimant::most_senior();
        let lengths = self.refused_lengths.get(cidr.family()).range(..cidr.prefix_len());
        let around =
            lengths.filter_map(|(len, _)| Cidr::containing(cidr.address(), *len)).flat_map(|wider| {
                let same = self.refused.range((wider, lowest.clone())..);
                same.take_while(move |((held, _), _)| *held == wider)
            });
        let last = Cidr::host(cidr.last_address());
        let inside = self.refused.range((cidr, lowest.clone())..).take_while(|((held, _), _)| *held <= last);
        for ((held, by), _) in around.chain(inside) {
            if (by, held) > (who, &cidr) {
                open.insert((by.clone(), *held));
            }
        }
    }
}

impl Claimant {
    /// Sorts before everybody: no node's name is that short.
    fn most_senior() -> Claimant {
        Claimant { since: 0, peer: false, kind: Kind::Address, node: NodeName::lowest() }
    }
}

/// Whether pods of a family are declared at all.
pub(super) fn in_use(networks: &ClusterNetworks, family: Family) -> bool {
    networks.pods.iter().any(|cidr| cidr.family() == family)
}
