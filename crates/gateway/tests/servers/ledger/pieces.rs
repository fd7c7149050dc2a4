//! What arrives in pieces is answered as what arrives whole.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::Served;
use crate::harness::connect;

pub(super) async fn check(served: &Served) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (port, address) = (listener.local_addr().unwrap().port(), served.gateway.addresses()[0]);
    let passing = tokio::spawn(async move {
        let (client, _) = listener.accept().await.unwrap();
        let server = TcpStream::connect(address).await.unwrap();
        server.set_nodelay(true).unwrap();
        let ((mut client, mut answers), (mut said, mut server)) =
            (client.into_split(), server.into_split());
        let back = tokio::spawn(async move { tokio::io::copy(&mut said, &mut answers).await });
        let mut piece = [0; 7];
        while let Ok(count @ 1..) = client.read(&mut piece).await {
            server.write_all(&piece[..count]).await.unwrap();
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        back.abort();
    });
    let conninfo =
        served.conninfo().replace(&format!("port={}", served.port()), &format!("port={port}"));
    let mut client = connect(&conninfo).await.unwrap();
    for number in 0..3_i64 {
        let open = client.transaction().await.unwrap();
        let row = open.query_one("SELECT $1::bigint + 1", &[&number]).await.unwrap();
        assert_eq!(row.get::<_, i64>(0), number + 1);
        let sum = "UPDATE account SET balance = balance + $1 - $1 WHERE id = 10";
        assert_eq!(open.execute(sum, &[&number]).await.unwrap(), 1);
        open.commit().await.unwrap();
    }
    drop(client);
    passing.await.unwrap();
}
