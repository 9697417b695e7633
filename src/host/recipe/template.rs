//! Templates: text with `{{ expression }}` in it.
//!
//! Only expressions, so that rendering ends and its result is bounded by its input; every variable must exist, which is
//! checked when the recipe is read and again when the template is rendered.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt;
use std::sync::{Arc, LazyLock, OnceLock};

use icu_normalizer::DecomposingNormalizerBorrowed;
use minijinja::{Environment, ErrorKind, UndefinedBehavior, Value};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::plain::{self, Part};
use super::{Answer, Draw};

/// The longest rendered text. Keys, titles and URLs are far below; nothing larger belongs in a text field of an upload.
pub const RENDERED_LIMIT: usize = 64 * 1024;

/// The variables of `file` that templates may use.
pub const FILE_VARIABLES: [&str; 8] = ["name", "stem", "extension", "mime", "bytes", "width", "height", "blake3"];

static ENVIRONMENT: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    environment.add_filter("ascii", ascii);
    environment.add_filter("urlencode", |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string());
    environment
});

/// `é` as `e`, and what has no such relative as `_`.
fn ascii(text: &str) -> String {
    let apart = DecomposingNormalizerBorrowed::new_nfkd().normalize(text).into_owned();
    let mark = |c: &char| !matches!(c, '\u{300}'..='\u{36f}');
    apart.chars().filter(mark).map(|c| if c.is_ascii() { c } else { '_' }).collect()
}

/// A checked template.
#[derive(Clone)]
pub struct Template(Kind);

#[derive(Clone)]
enum Kind {
    /// A text, and how it is rendered.
    Expressions(String, Way),
    Foreign(Arc<dyn Foreign>),
}

#[derive(Clone)]
enum Way {
    /// Its parts, side by side.
    Plain(Arc<[Part]>),
    Engine(Arc<Compiled>),
}

/// A text for the template engine, compiled when it is rendered first: most recipes are read only to be listed.
struct Compiled {
    /// The groups of values that it asks for: `option`, `step`, ….
    groups: BTreeSet<String>,
    environment: OnceLock<Result<Environment<'static>, minijinja::Error>>,
}

impl Compiled {
    fn render(&self, text: &str, values: Value) -> Result<String, minijinja::Error> {
        const NAME: &str = "";
        let compiled = self.environment.get_or_init(|| {
            let mut environment = ENVIRONMENT.clone();
            environment.add_template_owned(NAME, text.to_owned())?;
            Ok(environment)
        });
        let environment = compiled.as_ref().map_err(|error| minijinja::Error::new(error.kind(), error.to_string()))?;
        environment.get_template(NAME)?.render(values)
    }
}

/// A template in another language than ours.
pub trait Foreign: Send + Sync {
    /// The text; `answer` is there once there is one.
    ///
    /// # Errors
    /// [`RenderError`]. Never contains a value.
    fn render(&self, scope: &Scope, answer: Option<&Answer>) -> Result<String, RenderError>;

    /// What messages call it: the name of its field, never its text, which may hold a secret.
    fn source(&self) -> &str;

    /// Whether it carries the content of the file.
    fn has_content(&self) -> bool;
}

/// Why a text is no template.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// A statement or a comment.
    #[error("only {{{{ … }}}} expressions are allowed in a template, no {{% … %}} and no {{# … #}}")]
    Statement,
    /// It does not parse.
    #[error("{0}")]
    Syntax(String),
    /// It names what does not exist at this place.
    #[error("there is no `{name}` here; there are {known}")]
    Unknown {
        /// What was named.
        name: String,
        /// What exists.
        known: String,
    },
}

/// Why a template could not be rendered. Never contains a rendered value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RenderError {
    /// A value that the host should have given is missing.
    #[error("`{0}` needs a value that the answer did not have")]
    Missing(String),
    /// The result is too long.
    #[error("`{0}` became longer than {RENDERED_LIMIT} bytes")]
    TooLong(String),
    /// An expression failed on this value.
    #[error("`{0}` could not be worked out: {1}")]
    Failed(String, String),
}

impl Template {
    /// Checks `text`; `known` are the variables that exist where it stands, as `option.api_key`.
    ///
    /// # Errors
    /// [`TemplateError`]
    pub fn new(text: &str, known: &BTreeSet<String>) -> Result<Self, TemplateError> {
        if text.contains("{%") || text.contains("{#") {
            return Err(TemplateError::Statement);
        }
        let template = ENVIRONMENT.template_from_str(text).map_err(|error| {
            TemplateError::Syntax(error.detail().map_or_else(|| error.kind().to_string(), str::to_owned))
        })?;
        let asked = template.undeclared_variables(true);
        match asked.iter().filter(|name| !known.contains(*name)).min().cloned() {
            None => Ok(Self(Kind::Expressions(text.to_owned(), way(text, &asked)))),
            Some(name) => {
                let known = known.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
                Err(TemplateError::Unknown { name, known })
            }
        }
    }

    /// A template of another language.
    #[must_use]
    pub fn foreign(template: Arc<dyn Foreign>) -> Self {
        Self(Kind::Foreign(template))
    }

    /// The text with its expressions replaced, before there is an answer.
    ///
    /// # Errors
    /// [`RenderError`]
    pub fn render(&self, scope: &Scope) -> Result<String, RenderError> {
        self.render_after(scope, None)
    }

    /// The text with its expressions replaced; templates of other languages also read the answer itself.
    ///
    /// # Errors
    /// [`RenderError`]
    pub fn render_after(&self, scope: &Scope, answer: Option<&Answer>) -> Result<String, RenderError> {
        match &self.0 {
            Kind::Foreign(template) => template.render(scope, answer),
            Kind::Expressions(text, Way::Plain(parts)) => {
                let rendered = plain::render(parts, scope).ok_or_else(|| RenderError::Missing(text.clone()))?;
                within_limit(text, rendered)
            }
            Kind::Expressions(_, Way::Engine(compiled)) => self.render_with(scope.values(&compiled.groups)),
        }
    }

    /// The text with its expressions replaced by what they are with these values.
    pub(in crate::host) fn render_with(&self, values: Value) -> Result<String, RenderError> {
        let rendered = match &self.0 {
            Kind::Expressions(text, Way::Engine(compiled)) => {
                compiled.render(text, values).map_err(|error| (text, error))
            }
            Kind::Expressions(text, Way::Plain(_)) => {
                ENVIRONMENT.render_str(text, values).map_err(|error| (text, error))
            }
            Kind::Foreign(template) => return Err(RenderError::Missing(template.source().to_owned())),
        };
        let rendered = rendered.map_err(|(text, error)| match error.kind() {
            ErrorKind::UndefinedError => RenderError::Missing(text.clone()),
            kind => RenderError::Failed(text.clone(), kind.to_string()),
        })?;
        within_limit(self.source(), rendered)
    }

    /// The template's text, or the name of what holds it.
    #[must_use]
    pub fn source(&self) -> &str {
        match &self.0 {
            Kind::Expressions(text, _) => text,
            Kind::Foreign(template) => template.source(),
        }
    }

    /// Whether a value that comes out empty is sent all the same.
    #[must_use]
    pub fn keeps_empty(&self) -> bool {
        matches!(self.0, Kind::Foreign(_))
    }

    /// Whether it carries the content of the file.
    #[must_use]
    pub fn has_content(&self) -> bool {
        matches!(&self.0, Kind::Foreign(template) if template.has_content())
    }
}

/// How `text`, which asks for the values `asked`, is rendered.
fn way(text: &str, asked: &HashSet<String>) -> Way {
    let groups = || asked.iter().filter_map(|name| name.split('.').next()).map(str::to_owned).collect();
    plain::parts(text).map_or_else(
        || Way::Engine(Arc::new(Compiled { groups: groups(), environment: OnceLock::new() })),
        |parts| Way::Plain(Arc::from(parts)),
    )
}

fn within_limit(template: &str, rendered: String) -> Result<String, RenderError> {
    if rendered.len() > RENDERED_LIMIT { Err(RenderError::TooLong(template.to_owned())) } else { Ok(rendered) }
}

/// The empty text.
impl Default for Template {
    fn default() -> Self {
        Self(Kind::Expressions(String::new(), Way::Plain(Arc::new([]))))
    }
}

impl PartialEq for Template {
    fn eq(&self, other: &Self) -> bool {
        self.source() == other.source()
    }
}

impl Eq for Template {}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.source(), f)
    }
}

/// What a finished image of a gallery is called in templates.
pub type ImageValues = BTreeMap<&'static str, String>;

/// The values that templates see. Lives as long as one attempt; holds secrets in the clear, so it has no `Debug`.
#[derive(Clone, Default)]
pub struct Scope {
    /// `{{ base_url }}`, without a slash at its end.
    pub base_url: String,
    /// `{{ option.NAME }}`, as it goes on the wire.
    pub options: BTreeMap<String, String>,
    /// `{{ file.NAME }}`
    pub file: BTreeMap<String, String>,
    /// `{{ step.STEP.NAME }}`
    pub steps: BTreeMap<String, BTreeMap<String, String>>,
    /// `{{ site.NAME }}`
    pub sites: BTreeMap<String, String>,
    /// `{{ session.STEP.NAME }}`
    pub session: BTreeMap<String, BTreeMap<String, String>>,
    /// `{{ random.NAME }}`
    pub random: BTreeMap<String, String>,
    /// `{{ gallery.NAME }}`, empty texts without one.
    pub gallery: BTreeMap<&'static str, String>,
    /// `{{ images|map(attribute='file')|join(' ') }}`
    pub images: Vec<ImageValues>,
    /// `{{ uploaded.delete_token }}`
    pub uploaded: BTreeMap<&'static str, String>,
    /// The moment and the randomness of the attempt.
    pub draw: Draw,
    /// The file as base64, for recipes that send it inside of a text.
    pub content: Option<Arc<str>>,
    /// Only to be shown: secrets are marks here, and what is made of one is shown as the mark itself.
    pub preview: bool,
}

impl Scope {
    /// The values of these groups, for the template engine; copying all of them for each text is what most of its rendering
    /// would cost.
    pub(super) fn values(&self, groups: &BTreeSet<String>) -> Value {
        let of = |group: &str| match group {
            "base_url" => Value::from(self.base_url.as_str()),
            "option" => Value::from(self.options.clone()),
            "file" => Value::from(self.file.clone()),
            "step" => Value::from(self.steps.clone()),
            "site" => Value::from(self.sites.clone()),
            "session" => Value::from(self.session.clone()),
            "random" => Value::from(self.random.clone()),
            "gallery" => Value::from(self.gallery.clone()),
            "images" => Value::from(self.images.clone()),
            "uploaded" => Value::from(self.uploaded.clone()),
            _ => Value::UNDEFINED,
        };
        Value::from_pairs(groups.iter().map(|group| (group.as_str(), of(group))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known() -> BTreeSet<String> {
        ["base_url", "option.token", "option.id", "step.page.token"].map(str::to_owned).into()
    }

    fn scope() -> Scope {
        let mut scope = Scope { base_url: "https://h.example".into(), ..Scope::default() };
        scope.options.insert("token".into(), String::new());
        scope.options.insert("id".into(), "x".into());
        scope.steps.insert("page".into(), BTreeMap::new());
        scope
    }

    fn render(text: &str) -> Result<String, RenderError> {
        Template::new(text, &known()).expect("a template").render(&scope())
    }

    #[test]
    fn expressions_are_replaced_and_nothing_is_escaped() {
        assert_eq!(render("{{ base_url }}/a?b&c").as_deref(), Ok("https://h.example/a?b&c"));
        assert_eq!(render("{{ 'Crème ß 日.png'|ascii }}").as_deref(), Ok("Creme _ _.png"));
        assert_eq!(render("{{ 'T ' ~ option.token if option.token else 'C ' ~ option.id }}").as_deref(), Ok("C x"));
    }

    #[test]
    fn a_value_that_is_missing_at_run_time_is_an_error_and_not_an_empty_text() {
        assert!(matches!(render("{{ step.page.token }}"), Err(RenderError::Missing(_))));
        assert!(render("{{ step.page.token|replace('a', 'b') }}").is_err());
    }

    #[test]
    fn unknown_variables_statements_and_functions_are_refused_when_the_recipe_is_read() {
        for text in ["{{ option.nope }}", "{{ nope }}", "{{ option }}", "{{ range(9) }}"] {
            assert!(matches!(Template::new(text, &known()), Err(TemplateError::Unknown { .. })), "{text}");
        }
        for text in ["{% for i in base_url %}{% endfor %}", "{# x #}"] {
            assert_eq!(Template::new(text, &known()), Err(TemplateError::Statement), "{text}");
        }
        assert!(matches!(Template::new("{{ base_url", &known()), Err(TemplateError::Syntax(_))));
    }
}
