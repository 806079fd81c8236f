use super::*;

fn load(text: &str, set: &[(&str, &str)]) -> Result<Vec<Item>, Failed> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    let mut variables = Variables::default();
    set.iter().for_each(|(name, value)| variables.set(name, (*value).to_owned()));
    let mut loader = Loader::new(variables);
    loader.load(file.path(), "x.sql", true)?;
    Ok(loader.script.scripts.remove(0))
}

fn texts(text: &str, set: &[(&str, &str)]) -> Vec<String> {
    let text_of = |item| match item {
        Item::Sql(piece) => piece.text,
        Item::Print { text, .. } => format!("echo {text}"),
    };
    load(text, set).unwrap().into_iter().map(text_of).collect()
}

fn message(text: &str) -> String {
    match load(text, &[]).unwrap_err() {
        Failed::Script(error) => format!("{} {}", error.sqlstate, error.message),
        Failed::File(error) => error.to_string(),
    }
}

#[test]
fn pieces_end_with_semicolons_outside_of_quotes_comments_and_parentheses() {
    let text =
        "SELECT ';' /* ; /* ; */ */ , \";\" -- ;\n, $x$ ; $y$ $x$, E'\\';', (1;2);\n\nSELECT 2 ; -- end\n";
    let found = texts(text, &[]);
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].ends_with("(1;2)"), "{found:?}");
    assert_eq!(found[1], "SELECT 2");
    assert_eq!(
        texts("SELECT 1 \\; SELECT 2; SELECT 3 \\g\nSELECT 4", &[]),
        ["SELECT 1 ; SELECT 2", "SELECT 3", "SELECT 4"]
    );
}

#[test]
fn variables_are_put_in_as_psql_does() {
    let set = [("n", "7"), ("t", "O'Neil"), ("s", "my schema"), ("two", "1; SELECT 2")];
    assert_eq!(
        texts("SELECT :n, :'t', 'a:n', :\"s\".x::text, :missing, a[1:n], :{?n};", &set),
        ["SELECT 7, 'O''Neil', 'a:n', \"my schema\".x::text, :missing, a[17], TRUE"]
    );
    assert_eq!(texts("SELECT :two, :n;", &set), ["SELECT 1", "SELECT 2, 7"]);
    let Item::Sql(piece) = load("SELECT :missing", &[]).unwrap().remove(0) else { panic!("no SQL") };
    assert_eq!(piece.unset, ["missing"]);
}

#[test]
fn commands_choose_and_print() {
    let text = "\\set a 1 2\n\\set b :a\n\\echo it is :b 'and\\tmore' \\\\ SELECT :b;\n\
                \\if :{?missing}\nSELECT 'no';\n\\i nowhere.sql\n\\elif yes\nSELECT 'yes';\n\\else\nSELECT 'no';\n\\endif\n\
                \\unset a\nSELECT :a;\\q\nSELECT 'never';";
    assert_eq!(texts(text, &[]), ["echo it is 12 and\tmore\n", "SELECT 12", "SELECT 'yes'", "SELECT :a"]);
}

#[test]
fn what_is_not_known_is_said() {
    assert_eq!(
        message("SELECT 1 \\gset\n"),
        "0A000 \\gset is not supported: what it does depends on an answer"
    );
    assert_eq!(message("\\copy t from x"), "0A000 the command \\copy is not supported by lacus run");
    assert_eq!(message("\\set a `date`"), "0A000 programs in backquotes are not run");
    assert_eq!(message("\\if 1\nSELECT 1;"), "42601 \\if without \\endif");
    assert_eq!(
        message("\\if maybe\n\\endif"),
        "22023 unrecognized value \"maybe\" for \"\\if expression\": Boolean expected"
    );
    assert_eq!(message("SELECT 'a"), "42601 unterminated quoted text: '…");
    assert!(message("\\set ON_ERROR_STOP off").starts_with("0A000 lacus run stops"));
    assert!(message("\\i nowhere.sql").contains("nowhere.sql"));
}

#[test]
fn places_lead_back_to_the_file() {
    let text = "-- a comment\nSELECT :n + /* é */ nothing;";
    let Item::Sql(piece) = load(text, &[("n", "1234567")]).unwrap().remove(0) else { panic!("no SQL") };
    let byte = piece.text.find("nothing").unwrap();
    assert_eq!(&text[piece.place(byte).offset..][..7], "nothing");
    assert_eq!(line_and_column(text, piece.place(byte).offset), (2, 21));
    assert_eq!(line_and_column(text, piece.place(piece.text.find("345").unwrap()).offset), (2, 8));
    assert_eq!(piece.written, "SELECT :n + /* é */ nothing");
}

#[test]
fn a_comment_sets_the_options_of_a_step() {
    let text = "-- lacus: retries=3 backoff=10s\n-- lacus: timeout=15m\nSELECT 1; SELECT 2;";
    let found = load(text, &[]).unwrap();
    let options = |item: &Item| match item {
        Item::Sql(piece) => piece.options,
        Item::Print { .. } => StepOptions::default(),
    };
    let seconds = |seconds| Some(std::time::Duration::from_secs(seconds));
    assert_eq!(
        options(&found[0]),
        StepOptions { retries: Some(3), backoff: seconds(10), timeout: seconds(900) }
    );
    assert_eq!(options(&found[1]), StepOptions::default());
    assert_eq!(
        message("-- lacus: retires=3\nSELECT 1;"),
        "42601 a step has no option \"retires\": retries, backoff and timeout are known"
    );
}
