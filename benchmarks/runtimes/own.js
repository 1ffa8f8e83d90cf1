// The book's own program: plain JavaScript over the files that tlhelpers.page.web.export writes.
import { load as read } from "./digit-model.js";

export async function load(folder) {
  const model = await read(folder);
  return (image) => model.run(image);
}
