/* Search: what a chapter says comes before the insides of the library. The numbers are Sphinx' own. */
var Scorer = {
  score: ([page, , , , score]) => (page.startsWith("book/reference/library") ? score / 10 : score),
  objNameMatch: 11,
  objPartialMatch: 6,
  objPrio: { 0: 15, 1: 5, 2: -5 },
  objPrioDefault: 0,
  title: 15,
  partialTitle: 7,
  term: 5,
  partialTerm: 2,
};
