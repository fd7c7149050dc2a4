//! What no proxy over TCP can be cheaper than: bytes received from one socket and sent to the other, and nothing done with
//! them. Each client has a server connection of its own.

use std::io;
use std::net::{Ipv4Addr, TcpListener, TcpStream};

use rustix::buffer::spare_capacity;
use rustix::event::epoll;
use rustix::net::{RecvFlags, SendFlags, recv, send};

/// Stands for the listener among the sockets.
const DOOR: u64 = u64::MAX;
const ROOM: usize = 64 << 10;
const EVENTS: usize = 1024;

/// A socket, and the place of the one its bytes go to.
struct Half {
    socket: TcpStream,
    other: usize,
}

/// Passes on what comes to the port `listen` to the port `to`, both of this machine, until it is killed.
///
/// # Errors
/// What the system refuses.
pub(crate) fn pass_on(listen: u16, to: u16) -> io::Result<()> {
    let door = TcpListener::bind((Ipv4Addr::LOCALHOST, listen))?;
    let poller = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    epoll::add(&poller, &door, epoll::EventData::new_u64(DOOR), epoll::EventFlags::IN)?;
    let mut halves: Vec<Option<Half>> = Vec::new();
    let (mut room, mut events) = (vec![0; ROOM], Vec::with_capacity(EVENTS));
    loop {
        events.clear();
        epoll::wait(&poller, spare_capacity(&mut events), None)?;
        for event in &events {
            let place = match event.data.u64() {
                DOOR => {
                    admit(&door, to, &poller, &mut halves)?;
                    continue;
                }
                place => usize::try_from(place).unwrap_or(usize::MAX),
            };
            let half = |place: usize| halves.get(place)?.as_ref();
            let Some((from, towards)) =
                half(place).and_then(|from| Some((from, half(from.other)?)))
            else {
                continue;
            };
            let heard = match recv(&from.socket, &mut *room, RecvFlags::DONTWAIT) {
                Ok((_, heard)) => heard,
                Err(error) if error == rustix::io::Errno::AGAIN => continue,
                Err(_) => 0,
            };
            if heard == 0 || !all_sent(&towards.socket, room.get(..heard).unwrap_or_default()) {
                let other = from.other;
                for place in [place, other] {
                    if let Some(half) = halves.get_mut(place) {
                        *half = None;
                    }
                }
            }
        }
    }
}

fn admit(
    door: &TcpListener,
    to: u16,
    poller: impl std::os::fd::AsFd,
    halves: &mut Vec<Option<Half>>,
) -> io::Result<()> {
    let client = door.accept()?.0;
    let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, to)) else { return Ok(()) };
    let first = halves.len();
    for (socket, place, other) in [(client, first, first + 1), (server, first + 1, first)] {
        socket.set_nodelay(true)?;
        let data = epoll::EventData::new_u64(u64::try_from(place).unwrap_or(DOOR));
        epoll::add(&poller, &socket, data, epoll::EventFlags::IN)?;
        // Places are not used again: the bench has few clients, and an event of an old one cannot reach a new one so.
        halves.push(Some(Half { socket, other }));
    }
    Ok(())
}

/// Sends, waiting where the other side is slow.
fn all_sent(socket: &TcpStream, mut bytes: &[u8]) -> bool {
    while !bytes.is_empty() {
        match send(socket, bytes, SendFlags::NOSIGNAL) {
            Ok(sent) => bytes = bytes.get(sent..).unwrap_or_default(),
            Err(_) => return false,
        }
    }
    true
}
