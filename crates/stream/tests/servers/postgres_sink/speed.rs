use super::fixture::*;
use herdsman_wal::ReplicaIdentity::Default as ByKey;
use serde_json::json;
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn speed() {
    let target = Target::start(18, "CREATE TABLE kept (id int8 PRIMARY KEY, n int8, note text); CREATE TABLE other (id int8 PRIMARY KEY, n int8, note text)").await;
    let sink = target.opened(json!({})).await;
    let cols = [("id", INT8, true), ("n", INT8, false), ("note", TEXT, false)];
    let (a, b) = (table("kept", ByKey, &cols), table("other", ByKey, &cols));
    let mut maker = Maker::new();
    for kind in ["insert", "update", "toast", "mixed", "delete"] {
        let mut batches = vec![];
        for i in 0..100u64 {
            let rows: Vec<_> = (0..1000).map(|k| ((i * 1000 + k).to_string(), "some text of middling length".to_owned())).collect();
            let cells: Vec<_> = rows.iter().map(|(id, t)| [Some(id.as_str()), Some(id.as_str()), Some(t.as_str())]).collect();
            let toast: Vec<_> = rows.iter().map(|(id, _)| [Some(id.as_str()), Some(id.as_str()), TOAST]).collect();
            let mut changes = vec![];
            for (n, c) in cells.iter().enumerate() {
                changes.push(match kind {
                    "insert" => (&a, Does::Insert(c)),
                    "update" => (&a, Does::Update(c)),
                    "toast" => (&a, Does::Update(&toast[n])),
                    "delete" => (&a, Does::Delete(c)),
                    _ => (if n % 2 == 0 { &a } else { &b }, if n % 3 == 2 { Does::Delete(c) } else { Does::Insert(c) }),
                });
            }
            batches.push(maker.batch(&changes));
        }
        let start = tokio::time::Instant::now();
        for batch in &batches { assert_eq!(deliver(&sink, batch).await, [0; 0]); }
        eprintln!("SPEED {kind}: {:.0} rows/s", 100_000.0 / start.elapsed().as_secs_f64());
    }
}
