// Search that works without a server: MkDocs' own fetches its index, which browsers deny to pages opened from disk.
// Words of error messages are taken as words; lunr would read a colon as the name of a field.
(function () {
  const list = document.getElementById("mkdocs-search-results");
  const input = document.getElementById("mkdocs-search-query");
  if (!list || !input) return;

  function load(name, then) {
    const script = document.createElement("script");
    script.src = base_url + "/search/" + name;
    script.onload = then;
    document.body.append(script);
  }

  function show(found) {
    const articles = found.map((page) => {
      const article = document.createElement("article");
      const link = document.createElement("a");
      link.href = base_url + "/" + page.location;
      link.textContent = page.title;
      const title = document.createElement("h3");
      title.append(link);
      const text = document.createElement("p");
      text.textContent = page.text.slice(0, 200);
      article.append(title, text);
      return article;
    });
    list.replaceChildren(...(articles.length ? articles : ["No results found"]));
  }

  function begin() {
    const pages = new Map(golfPages.map((page) => [page.location, page]));
    const index = lunr(function () {
      this.ref("location");
      this.field("title", { boost: 3 });
      this.field("text");
      golfPages.forEach((page) => this.add(page));
    });
    const search = () => {
      const words = input.value.replace(/[^\p{L}\p{N}_.]+/gu, " ").trim();
      show(words ? index.search(words).map((hit) => pages.get(hit.ref)) : []);
    };
    input.addEventListener("input", search);
    input.value = new URLSearchParams(location.search).get("q") || "";
    search();
  }

  load("lunr.js", () => load("pages.js", begin));
})();
