// Texts that show nothing: only white space, invisible characters, and characters with an empty glyph.

const SHOWS_NOTHING = /^[\p{White_Space}\p{Default_Ignorable_Code_Point}\p{Cc}\u2800\ufff9-\ufffb\u{1d159}]*$/u;

/** Returns the text, or undefined if a reader would see nothing of it. */
export function visible(text: string): string | undefined {
  return SHOWS_NOTHING.test(text) ? undefined : text;
}
