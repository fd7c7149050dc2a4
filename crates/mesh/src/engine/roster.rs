//! Who is in the mesh, as its members say.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use herdsman_node::{NodeName, Tls};
use tokio::sync::watch;
use tokio_postgres::Client;

use crate::error::MeshError;
use crate::install;
use crate::setup::{Member, MemberState, Setup};
use crate::stamp::NodeId;
use crate::status::Board;

/// How often the members are asked.
const PAUSE: Duration = Duration::from_secs(2);
/// Bound on connecting and on each question.
const LIMIT: Duration = Duration::from_secs(5);

/// Who is in the mesh: those that changes flow to and from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Roster {
    /// In the order of their numbers.
    pub(crate) members: Vec<Member>,
}

impl Roster {
    pub(crate) fn state(&self, id: NodeId) -> Option<MemberState> {
        self.members.iter().find(|member| member.id == id).map(|member| member.state)
    }

    /// Puts together what nodes say. A member's states follow one another, and a command writes them to one node after
    /// the other: of two the later one counts.
    ///
    /// # Errors
    /// Two nodes know two members by one number, or one member by two.
    fn agreed(answers: &[(NodeName, Vec<Member>)]) -> Result<Self, MeshError> {
        let mut by_id: BTreeMap<NodeId, (&NodeName, Member)> = BTreeMap::new();
        for (node, members) in answers {
            for member in members {
                let (before, known) =
                    by_id.entry(member.id).or_insert_with(|| (node, member.clone()));
                if known.name != member.name {
                    let (id, one, other) = (member.id, &known.name, &member.name);
                    return Err(at_odds(&format!(
                        "member {id} is `{one}` on node `{before}` and `{other}` on node `{node}`"
                    )));
                }
                if rank(member.state) > rank(known.state) {
                    known.state = member.state;
                }
            }
        }
        let members: Vec<Member> = by_id
            .into_values()
            .map(|(_, member)| member)
            .filter(|member| member.state != MemberState::Gone)
            .collect();
        let mut names = BTreeMap::new();
        for member in &members {
            if let Some(other) = names.insert(member.name.clone(), member.id) {
                let (name, id) = (&member.name, member.id);
                return Err(at_odds(&format!("`{name}` is both member {other} and member {id}")));
            }
        }
        Ok(Self { members })
    }
}

fn at_odds(problem: &str) -> MeshError {
    MeshError::refused(
        format!("the nodes do not agree on who is in the mesh: {problem}"),
        "one of them may belong to another mesh: compare herdsman.members on all of them",
    )
}

fn rank(state: MemberState) -> u8 {
    match state {
        MemberState::Joining => 0,
        MemberState::Active => 1,
        MemberState::Leaving => 2,
        MemberState::Gone => 3,
    }
}

/// Asks again and again, and tells what has changed.
pub(crate) async fn run(setup: Arc<Setup>, board: Arc<Board>, roster: watch::Sender<Arc<Roster>>) {
    let mut clients: BTreeMap<NodeName, Client> = BTreeMap::new();
    loop {
        let (answers, troubles) = ask(&setup, &mut clients).await;
        let problem = match Roster::agreed(&answers) {
            Err(error) => Some(error.to_string()),
            Ok(found) if answers.is_empty() && !troubles.is_empty() => {
                drop(found);
                Some(troubles.join("; "))
            }
            Ok(found) => {
                let problem = unknown(&setup, &found);
                // Nodes that hold no member list are no members: nothing is known of the mesh then.
                let known = !found.members.is_empty() || roster.borrow().members.is_empty();
                roster.send_if_modified(|now| {
                    let new = known && **now != found;
                    if new {
                        *now = Arc::new(found);
                    }
                    new
                });
                problem
            }
        };
        board.set_problem(problem);
        tokio::time::sleep(PAUSE).await;
    }
}

fn unknown(setup: &Setup, roster: &Roster) -> Option<String> {
    if roster.members.is_empty() {
        return Some("no node is a member of the mesh yet; run `herdsman mesh up`".to_owned());
    }
    let missing: Vec<String> = roster
        .members
        .iter()
        .filter(|member| !setup.nodes.contains_key(&member.name))
        .map(|member| format!("`{}`", member.name))
        .collect();
    (!missing.is_empty()).then(|| {
        let missing = missing.join(", ");
        format!("the members {missing} are not in this process's configuration: nothing reaches them, and nothing comes from them; add them to `hosts` and `mesh.nodes`")
    })
}

/// What those say that answer, and what is wrong with the others.
async fn ask(
    setup: &Setup,
    clients: &mut BTreeMap<NodeName, Client>,
) -> (Vec<(NodeName, Vec<Member>)>, Vec<String>) {
    let asking = setup.config.nodes.iter().map(|node| {
        let client = clients.remove(node).filter(|client| !client.is_closed());
        async move {
            let asking = async {
                let client = match client {
                    Some(client) => client,
                    None => connect(setup, node).await?,
                };
                let members = install::members(node, &client).await?;
                Ok::<_, MeshError>((client, members))
            };
            let late = |_| MeshError::TimedOut {
                node: node.clone(),
                what: "asking for the members".to_owned(),
                seconds: LIMIT.as_secs(),
            };
            (node, tokio::time::timeout(LIMIT, asking).await.map_err(late).flatten())
        }
    });
    let (mut answers, mut troubles) = (Vec::new(), Vec::new());
    for (node, outcome) in join_all(asking).await {
        match outcome {
            Ok((client, members)) => {
                clients.insert(node.clone(), client);
                answers.push((node.clone(), members));
            }
            Err(error) => troubles.push(error.to_string()),
        }
    }
    (answers, troubles)
}

/// An ordinary session, which ends when it is dropped.
pub(crate) async fn connect(setup: &Setup, node: &NodeName) -> Result<Client, MeshError> {
    let Some(info) = setup.nodes.get(node) else {
        return Err(MeshError::refused(
            format!("node `{node}` is not in the configuration"),
            "add it to `hosts`",
        ));
    };
    let tls = Tls::new(info).map_err(|source| MeshError::Tls { node: node.clone(), source })?;
    let connection = herdsman_node::connect(info, &tls, LIMIT)
        .await
        .map_err(|source| MeshError::Connect { node: node.clone(), source })?;
    let (client, driving) = connection.split(|_| {});
    tokio::spawn(driving);
    Ok(client)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(id: i16, name: &str, state: MemberState) -> Member {
        Member { id: NodeId(id), name: NodeName::new(name).unwrap(), state }
    }

    fn says(node: &str, members: &[(i16, &str, MemberState)]) -> (NodeName, Vec<Member>) {
        let members = members.iter().map(|(id, name, state)| member(*id, name, *state)).collect();
        (NodeName::new(node).unwrap(), members)
    }

    #[test]
    fn who_has_heard_more_is_believed() {
        use MemberState::{Active, Gone, Joining, Leaving};
        let roster = Roster::agreed(&[
            says("a", &[(1, "a", Active), (2, "b", Active), (3, "c", Leaving), (4, "d", Gone)]),
            says("b", &[(1, "a", Active), (2, "b", Active), (3, "c", Active), (4, "d", Active)]),
            says("e", &[]),
            says("a", &[(5, "e", Joining)]),
        ])
        .unwrap();
        let wanted = [(1, "a", Active), (2, "b", Active), (3, "c", Leaving), (5, "e", Joining)];
        assert_eq!(roster.members, wanted.map(|(id, name, state)| member(id, name, state)),);
    }

    #[test]
    fn nodes_of_two_meshes_are_told() {
        use MemberState::Active;
        let error =
            Roster::agreed(&[says("a", &[(1, "a", Active)]), says("b", &[(1, "b", Active)])])
                .unwrap_err();
        assert!(
            error.to_string().contains("member 1 is `a` on node `a` and `b` on node `b`"),
            "{error}"
        );
        let error =
            Roster::agreed(&[says("a", &[(1, "a", Active)]), says("b", &[(2, "a", Active)])])
                .unwrap_err();
        assert!(error.to_string().contains("`a` is both member 1 and member 2"), "{error}");
    }
}
