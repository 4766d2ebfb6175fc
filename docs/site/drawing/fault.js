/** Something that the reader of the page should know. The message is a sentence. */
export class Fault extends Error {}
