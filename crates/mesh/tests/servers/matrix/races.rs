//! A transaction that is stamped but not yet committed while others' changes arrive.

use super::case::Case;

/// race
pub(super) async fn a_row_committed_after_its_deletion_arrived_goes_everywhere(case: &Case<'_>) {
    insert_beside_a_deletion(case).await;
    case.ends_as(&[]).await;
}

/// A inserts a key and does not commit; B inserts and deletes it, which A learns; then A commits.
pub(super) async fn insert_beside_a_deletion(case: &Case<'_>) {
    let mesh = case.mesh;
    mesh.hold(&case.b, &case.a);
    let open = mesh.app(&case.a).await;
    let insert = "BEGIN; INSERT INTO {t} VALUES (1, 'A', '')".replace("{t}", &case.table());
    open.batch_execute(&insert).await.unwrap();
    // In one transaction: A would wait for its own with the row before it could know of the deletion.
    case.on(&case.b, "INSERT INTO {t} VALUES (1, 'B', ''); DELETE FROM {t} WHERE id = 1").await;
    mesh.release(&case.b, &case.a);
    mesh.carried(&case.b, &case.a).await;
    open.batch_execute("COMMIT").await.unwrap();
}
