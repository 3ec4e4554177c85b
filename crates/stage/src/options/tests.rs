use super::*;

fn schema() -> Schema {
    Schema::parse(&[
        r#"
            [lr]
            kind = "number"
            default = 0.1
            above = 0.0
            about = "learning rate"
            [seed]
            kind = "integer"
            default = 123
            min = 0
            about = "seed"
            [group_by]
            kind = "text"
            choices = ["story"]
            about = "grouping"
            [source]
            kind = "source"
            default = "sample"
            builtin = ["sample", "hash:"]
            about = "data"
            [seeds]
            kind = "integers"
            min = 0
            about = "seeds"
            [devices]
            kind = "texts"
            builtin = ["cpu", "cuda", "cuda:"]
            about = "devices"
            "#,
        "[lr]\ndefault = 0.5",
    ])
    .expect("a valid schema")
}

fn set(name: &str, text: &str) -> Result<Json, String> {
    let mut options = schema().defaults();
    schema().set_text(&mut options, name, text).map(|()| options[name].clone())
}

#[test]
fn the_same_number_has_one_canonical_form() {
    assert_eq!(set("lr", "1"), set("lr", "1.0"));
    assert_eq!(set("lr", "0.10"), Ok(Json::from(0.1)));
    assert_eq!(
        ["lr"; 4]
            .iter()
            .zip([".3", "0.3", "3.e-1", "+.3"])
            .map(|(n, t)| set(n, t))
            .collect::<Vec<_>>(),
        vec![Ok(Json::from(0.3)); 4]
    );
    assert_eq!(set("seed", "7"), Ok(Json::from(7)));
}

#[test]
fn errors_state_what_is_allowed() {
    assert_eq!(set("lr", "-1"), Err("must be more than 0, not -1".into()));
    assert_eq!(set("lr", "nan").unwrap_err(), "must be a finite number, not nan");
    assert_eq!(set("seed", "1.5").unwrap_err(), "must be a whole number, not 1.5");
    assert_eq!(set("sed", "1").unwrap_err(), "is not a known option; did you mean `seed`?");
    assert_eq!(
        set("source", "hash:0").unwrap_err(),
        "must have a number from 1 to 65536 after `hash:`, not \"hash:0\""
    );
    assert_eq!(set("source", "hash:300"), Ok(Json::from("hash:300")));
    assert!(set("group_by", "stories").unwrap_err().contains("did you mean `story`?"));
}

#[test]
fn a_later_description_changes_fields_of_an_earlier_one() {
    assert_eq!(schema().defaults()["lr"], 0.5);
    assert_eq!(set("lr", "-1").unwrap_err(), "must be more than 0, not -1");
}

#[test]
fn lists_are_checked_item_by_item() {
    assert_eq!(set("seeds", "[1, 2]"), Ok(Json::from(vec![1, 2])));
    assert_eq!(set("seeds", "[1, -2]").unwrap_err(), "must be at least 0, not -2");
    assert_eq!(set("seeds", "[1, 2, 1]").unwrap_err(), "has 1 twice");
    assert_eq!(
        set("seeds", "5").unwrap_err(),
        "must be a list of whole numbers, such as [1, 2], not 5"
    );
    assert_eq!(set("devices", r#"["cpu", "cuda:1"]"#), Ok(Json::from(vec!["cpu", "cuda:1"])));
    for wrong in ["gpu", "cuda:", "cuda:x", "cuda:-1"] {
        let expected = format!("cannot have \"{wrong}\"; expected one of cpu, cuda, cuda:0");
        assert_eq!(set("devices", &format!("[\"{wrong}\"]")).unwrap_err(), expected);
    }
    assert_eq!(set("devices", r#"["cpu", "cpu"]"#).unwrap_err(), "has \"cpu\" twice");
    assert_eq!(
        set("devices", "cpu").unwrap_err(),
        "must be a list of strings, such as [\"cpu\"], not \"cpu\""
    );
}

#[test]
fn strings_need_no_quotes_and_none_unsets() {
    assert_eq!(set("source", "/tmp/a b.zip"), Ok(Json::from("/tmp/a b.zip")));
    assert_eq!(set("source", "123"), Ok(Json::from("123")));
    assert_eq!(set("source", r#"["a", "b"]"#), Ok(Json::from(vec!["a", "b"])));
    assert_eq!(set("group_by", "none"), Ok(Json::Null));
}

#[test]
fn an_optional_option_is_null_until_set() {
    assert_eq!(schema().defaults()["group_by"], Json::Null);
}
