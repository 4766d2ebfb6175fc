// Formulas are drawn while the deck is built; emoji stay letters, so that no picture of one is fetched.
export default {
  html: true,
  themeSet: ["scratch/theme.css"],
  options: {
    emoji: { shortcode: false, unicode: false },
    script: false,
  },
};
