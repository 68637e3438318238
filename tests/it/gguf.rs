//! A GGUF file on its way through the whole house: imported from the command line, served, forgotten.

use std::fs;

use engine::random::gguf::{Form, write_folder};
use tests::ctl::run;
use tests::house::House;

#[tokio::test]
async fn a_trained_model_in_gguf_is_imported_and_still_knows_what_it_knows() {
    let house = House::start();
    let client = house.client().await;
    let nano = client.models().await.unwrap().into_iter().find(|card| card.name == "impetus-nano").unwrap();
    let file = house.home().join("Nano-Q8_0.gguf");
    write_folder(nano.path.as_ref(), &file, |_| Form::Q8_0).unwrap();
    let file = file.to_str().unwrap();

    let imported = run(&house, &["models", "import", file, "--json"]);
    assert_eq!(imported.json()["model"], "Nano-Q8_0", "{imported:?}");
    let cards = run(&house, &["models", "--json"]).json();
    let card = cards.as_array().unwrap().iter().find(|card| card["name"] == "Nano-Q8_0").unwrap();
    assert_eq!(card["facts"]["architecture"], "qwen3");
    assert_eq!(card["facts"]["parameters"], nano.facts.parameters);
    assert_eq!(card["facts"]["weights"], "8-bit, group 32");
    assert_eq!(card["facts"]["capabilities"]["tools"], true);

    let question = ["run", "--max-tokens", "40", "--temperature", "0", "What is Impetus?"];
    let expected = run(&house, &question);
    let answer = run(&house, &[&question[..], &["--model", "Nano-Q8_0"]].concat());
    assert_eq!(answer.code, 0, "{answer:?}");
    assert!(answer.out.contains("Impetus"), "{answer:?}");
    assert_eq!(answer.out, expected.out, "eight bits are eight bits");

    let again = run(&house, &["models", "import", file]);
    assert_eq!(again.code, 7, "{again:?}");
    assert!(again.err.contains("taken"), "{again:?}");
    assert_eq!(run(&house, &["rm", "Nano-Q8_0"]).code, 0);
    assert_eq!(fs::read_dir(house.home().join("models/imported")).unwrap().count(), 0);
    assert!(fs::exists(file).unwrap());
}

#[test]
fn what_is_no_gguf_model_is_refused_in_words() {
    let house = House::start();
    let file = house.home().join("fake.gguf");
    fs::write(&file, "not a model").unwrap();
    let refused = run(&house, &["models", "import", file.to_str().unwrap()]);
    assert!(refused.code != 0 && refused.err.contains("does not begin as a GGUF file"), "{refused:?}");
    assert_eq!(run(&house, &["models", "import", "/nowhere/at/all.gguf"]).code, 3);
    assert_eq!(fs::read_dir(house.home().join("models/imported")).unwrap().count(), 0);
}
