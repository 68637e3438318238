//! Who shares turns with whom.

use super::*;

/// Who a worker takes a new connection for.
async fn client_of(house: &House, key: Option<&str>) -> String {
    let hello = Hello { client: "test".to_owned(), key: key.map(str::to_owned) };
    let client = Client::connect_as(&house.config.socket, hello, Patience::STARTING).await.unwrap();
    let asked = GenerateRequest { model: Some("who".to_owned()), ..ask(1) };
    let events: Vec<_> = client.events(client.begin(asked).await.unwrap()).collect().await;
    let said = events.into_iter().find_map(|event| match event.unwrap() {
        Event::Delta(delta) => Some(delta.text),
        _ => None,
    });
    said.expect("the worker says who asks")
}

#[tokio::test]
async fn all_connections_of_a_key_share_its_turns_and_each_of_the_users_own_has_some() {
    let house = House::start().await;
    let owner = house.client().await;
    add_scripted(&house, &owner, "who", r#"{"says_client": true}"#).await;
    let mut keys = Vec::new();
    for _ in 0..2 {
        keys.push(owner.create_key(wish(KeyRole::User)).await.unwrap().card.id);
    }
    let [one, other] = [Some(keys[0].as_str()), Some(keys[1].as_str())];
    let first = client_of(&house, one).await;
    assert_eq!(client_of(&house, one).await, first);
    assert_ne!(client_of(&house, other).await, first);
    assert_ne!(client_of(&house, None).await, client_of(&house, None).await);
    house.stop().await;
}
