//! Adds random models to a house.

use std::path::PathBuf;

use engine::random::Recipe;
use protocol::client::Client;
use protocol::model::{AddRequest, ModelCard};

use crate::house::House;

/// Writes the model into the house's home and returns its folder.
pub fn write(house: &House, name: &str, recipe: &Recipe) -> PathBuf {
    let folder = house.home().join("folders").join(name);
    recipe.write(&folder).expect("the model is written");
    folder
}

/// Writes and registers the model.
pub async fn add(house: &House, client: &Client, name: &str, recipe: &Recipe) -> ModelCard {
    let path = write(house, name, recipe).to_string_lossy().into_owned();
    client.add(AddRequest { path, name: Some(name.to_owned()) }).await.expect("the model is accepted")
}
